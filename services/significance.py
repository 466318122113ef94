"""Is it better, or was it lucky? Seeds are replicates, and a claim is a one-sided t test over them.

    Welch      t = (mean_a - mean_b) / sqrt(var_a/n_a + var_b/n_b)      df by Welch-Satterthwaite

Lower is better everywhere, so p = P(T_df <= t) and a small p speaks for `a`. Variances are sample
variances (n - 1). Welch and not the pooled test, because a recipe may also change the spread; not paired
by seed, because groups rarely share theirs, and between two architectures a seed means little in common.

Below two seeds, or without any spread, there is no test: p is None and the note says why. A number
there would be read as evidence. The same config under the same seed is the same measurement, so groups
are mappings from seed to value and a repeated run cannot pose as a replicate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from scipy.special import stdtr


@dataclass(frozen=True)
class Verdict:
    """A one-sided p value that the first is better (lower), or None and the reason."""

    p: float | None
    note: str
    t: float | None = None
    df: float | None = None


def welch(a: Sequence[float], b: Sequence[float]) -> Verdict:
    """That the mean of `a` lies below the mean of `b`; spreads may differ."""
    if refused := _too_few(a) or _too_few(b):
        return refused
    error_a, error_b = _variance(a) / len(a), _variance(b) / len(b)
    error = error_a + error_b
    if error == 0.0:
        return Verdict(None, "no spread between seeds: nothing to test against")
    t = (_mean(a) - _mean(b)) / sqrt(error)
    df = error**2 / (error_a**2 / (len(a) - 1) + error_b**2 / (len(b) - 1))
    return Verdict(float(stdtr(df, t)), f"Welch, {len(a)} against {len(b)} seeds", t, df)


def against_leader(groups: Mapping[str, Mapping[int, float]], leader: str) -> dict[str, Verdict]:
    """Per group of seeds: that the leader is better than it."""
    best = list(groups[leader].values())
    verdicts = {name: welch(best, list(values.values())) for name, values in groups.items() if name != leader}
    return {**verdicts, leader: Verdict(None, f"leader, {_seeds(len(best))}")}


def _too_few(values: Sequence[float]) -> Verdict | None:
    return Verdict(None, f"{_seeds(len(values))}: a test needs 2 per group") if len(values) < 2 else None


def _seeds(count: int) -> str:
    return f"{count} seed" + ("" if count == 1 else "s")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sum((v - mean) ** 2 for v in values) / (len(values) - 1)
