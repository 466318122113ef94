"""How measurements are said to people: one place, so that the table, the card and the plots agree."""

from collections.abc import Container, Iterable, Sequence

from pgolf.errors import Infeasible

ABSENT = "-"

REASONS = {  # what is said, decimals to begin with, unit
    "artifact_bytes": ("over the byte cap", 0, ""),
    "train_seconds": ("over the training clock", 1, " s"),
    "eval_seconds": ("over the evaluation clock", 1, " s"),
    "predicted_artifact_bytes": ("predicted over the byte cap", 0, ""),
    "predicted_peak_memory_bytes": ("predicted over the GPU's memory", 0, ""),
    "predicted_train_seconds": ("predicted over the training clock", 0, " s"),
    "gate": ("killed at the gate", 2, " bpb"),
    "diverged": ("diverged", 2, ""),
    "certificate": ("failed its certificate", 0, ""),
    "rules": ("outside the rules", 0, ""),
}


def why(outcome: Infeasible) -> str:
    """One broken limit with its numbers, in as many decimals as tell the two apart.

    >>> why(Infeasible(reason="artifact_bytes", measured=412300, limit=400000))
    'over the byte cap: 412,300 > 400,000'
    """
    rule, decimals, unit = REASONS.get(outcome.reason, (outcome.reason.replace("_", " "), 3, ""))
    if outcome.measured is None:
        return f"{rule}: not a number"
    measured, limit = outcome.measured, outcome.limit
    while decimals < 9 and f"{measured:.{decimals}f}" == f"{limit:.{decimals}f}":
        decimals += 1
    sign = ">" if measured > limit else "<"
    return f"{rule}: {measured:,.{decimals}f} {sign} {limit:,.{decimals}f}{unit}"


def piped(headings: Sequence[str], rows: Iterable[Sequence[str]], words: Container[str]) -> str:
    """A Markdown table; columns that are not `words` stand to the right."""
    rule = ["---" if h in words else "---:" for h in headings]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [headings, rule, *rows])


def whole(value: float | None) -> str:
    """A count with thousands separators."""
    return ABSENT if value is None else f"{value:,.0f}"


def bits(value: float | None) -> str:
    """Bits per byte to four places: the fifth is below any seed's noise."""
    return ABSENT if value is None else f"{value:.4f}"


def seconds(value: float | None) -> str:
    """Seconds to a tenth; below one, to a hundredth."""
    return ABSENT if value is None else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
