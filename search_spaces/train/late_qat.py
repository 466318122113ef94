"""Late rounding, or none: which form, on what grid, from where."""

from optuna.trial import BaseTrial

from pgolf.train.late_qat import LateQat, Noisy, SoftRound, StraightThrough
from search_spaces.train.grouped_qat import KINDS, of_kind

ON_ROWS = {"straight_through": StraightThrough, "soft_round": SoftRound, "noisy": Noisy}


def late_qat(trial: BaseTrial, at: str, grouped: bool = False) -> LateQat | None:
    """`grouped`: ternary and binary too, where the quantizer follows what was trained."""
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    kind = trial.suggest_categorical(f"{at}.kind", [*ON_ROWS, *(KINDS if grouped else ())])
    if kind in KINDS:
        return of_kind(trial, at, kind)
    return ON_ROWS[kind](
        bits=trial.suggest_int(f"{at}.bits", 4, 8),
        clip_sigmas=trial.suggest_float(f"{at}.clip_sigmas", 8.0, 20.0, log=True),
        from_fraction=trial.suggest_float(f"{at}.from_fraction", 0.7, 0.98),
    )
