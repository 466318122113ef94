"""How measurements are said to people: one place, so that the table, the card and the plots agree."""

from pgolf.errors import Infeasible

ABSENT = "-"

_REASONS = {
    "artifact_bytes": ("over the byte cap", "{:,.0f}", ""),
    "train_seconds": ("over the training clock", "{:.1f}", " s"),
    "eval_seconds": ("over the evaluation clock", "{:.1f}", " s"),
    "gate": ("killed at the gate", "{:.2f}", " bpb"),
    "diverged": ("diverged", "{:.3g}", ""),
    "certificate": ("failed its certificate", "{:.4g}", ""),
}


def why(outcome: Infeasible) -> str:
    """One broken limit with its numbers.

    >>> why(Infeasible(reason="artifact_bytes", measured=412300, limit=400000))
    'over the byte cap: 412,300 > 400,000'
    """
    rule, form, unit = _REASONS.get(outcome.reason, (outcome.reason.replace("_", " "), "{:.6g}", ""))
    if outcome.measured is None:
        return f"{rule}: not a number"
    while form.format(outcome.measured) == form.format(outcome.limit) and "." in form and form < "{:.9":
        form = form.replace(form[form.index(".") + 1], str(int(form[form.index(".") + 1]) + 1))
    return f"{rule}: {form.format(outcome.measured)} > {form.format(outcome.limit)}{unit}"


def whole(value: float | None) -> str:
    """A count with thousands separators."""
    return ABSENT if value is None else f"{value:,.0f}"


def bits(value: float | None) -> str:
    """Bits per byte to four places: the fifth is below any seed's noise."""
    return ABSENT if value is None else f"{value:.4f}"


def seconds(value: float | None) -> str:
    """Seconds to a tenth; below one, to a hundredth."""
    return ABSENT if value is None else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
