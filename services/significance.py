"""Is it better, or was it lucky? Seeds are replicates, and a claim is a one-sided t test over them.

    Welch      t = (mean_a - mean_b + margin) / sqrt(var_a/n_a + var_b/n_b)     df by Welch-Satterthwaite
    one sample t = (mean - (record - margin)) / sqrt(var/n)                     df = n - 1
    paired     the one-sample test on a_s - b_s over the seeds s both have

Lower is better everywhere, so p = P(T_df <= t) and a small p speaks for `a`. Variances are sample
variances (n - 1). Welch and not the pooled test, because a recipe may also change the spread. Pairing by
seed removes what the seed does to both (data order), and is the sharper test where seeds are shared.

Below two seeds, or without any spread, there is no test: p is None and the note says why. A number
there would be read as evidence. The same config under the same seed is the same measurement, so groups
are mappings from seed to value and a repeated run cannot pose as a replicate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from scipy.special import stdtr

RECORD_MARGIN_NATS = 0.005  # per token: how far a new record must lie below the old one
RECORD_P = 0.01


@dataclass(frozen=True)
class Verdict:
    """A one-sided p value that the first is better (lower), or None and the reason."""

    p: float | None
    note: str
    t: float | None = None
    df: float | None = None


def welch(a: Sequence[float], b: Sequence[float], margin: float = 0.0) -> Verdict:
    """That the mean of `a` lies more than `margin` below the mean of `b`; spreads may differ."""
    if refused := _too_few(a) or _too_few(b):
        return refused
    error_a, error_b = _variance(a) / len(a), _variance(b) / len(b)
    error = error_a + error_b
    if error == 0.0:
        return Verdict(None, "no spread between seeds: nothing to test against")
    t = (_mean(a) - _mean(b) + margin) / sqrt(error)
    df = error**2 / (error_a**2 / (len(a) - 1) + error_b**2 / (len(b) - 1))
    return Verdict(float(stdtr(df, t)), f"Welch, {len(a)} against {len(b)} seeds", t, df)


def beats_record(
    nats_per_token: Sequence[float], record_nats: float, margin: float = RECORD_MARGIN_NATS
) -> Verdict:
    """That the mean loss lies below `record_nats - margin`, a fixed number."""
    if refused := _too_few(nats_per_token):
        return refused
    return _one_sample(nats_per_token, record_nats - margin, f"one sample, {len(nats_per_token)} seeds")


def paired(a: Mapping[int, float], b: Mapping[int, float], margin: float = 0.0) -> Verdict:
    """That `a` lies more than `margin` below `b` on the seeds they have in common."""
    common = sorted(a.keys() & b.keys())
    if len(common) < 2:
        return Verdict(None, f"{_seeds(len(common))} in common: a paired test needs 2")
    return _one_sample([a[s] - b[s] for s in common], -margin, f"paired, {len(common)} seeds")


def against_leader(groups: Mapping[str, Mapping[int, float]], leader: str) -> dict[str, Verdict]:
    """Per group: that the leader is better than it. By Welch, since groups rarely share their seeds."""
    best = list(groups[leader].values())
    verdicts = {name: welch(best, list(values.values())) for name, values in groups.items() if name != leader}
    return {**verdicts, leader: Verdict(None, f"leader, {_seeds(len(best))}")}


def _one_sample(values: Sequence[float], threshold: float, note: str) -> Verdict:
    variance = _variance(values)
    if variance == 0.0:
        return Verdict(None, "no spread between seeds: nothing to test against")
    t = (_mean(values) - threshold) / sqrt(variance / len(values))
    return Verdict(float(stdtr(len(values) - 1, t)), note, t, len(values) - 1)


def _too_few(values: Sequence[float]) -> Verdict | None:
    return Verdict(None, f"{_seeds(len(values))}: a test needs 2 per group") if len(values) < 2 else None


def _seeds(count: int) -> str:
    return f"{count} seed" + ("" if count == 1 else "s")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sum((v - mean) ** 2 for v in values) / (len(values) - 1)
