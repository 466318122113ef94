"""Late rounding, or none: which form, on what grid, from where."""

from optuna.trial import BaseTrial

from pgolf.train.late_qat import LateQat, Noisy, SoftRound, StraightThrough


def late_qat(trial: BaseTrial, at: str) -> LateQat | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    kind = trial.suggest_categorical(f"{at}.kind", ["straight_through", "soft_round", "noisy"])
    form = {"straight_through": StraightThrough, "soft_round": SoftRound, "noisy": Noisy}[kind]
    return form(
        bits=trial.suggest_int(f"{at}.bits", 4, 8),
        clip_sigmas=trial.suggest_float(f"{at}.clip_sigmas", 8.0, 20.0, log=True),
        from_fraction=trial.suggest_float(f"{at}.from_fraction", 0.7, 0.98),
    )
