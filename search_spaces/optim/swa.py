"""Ranges of stochastic weight averaging, or none. The limit stays above every floor that is offered."""

from optuna.trial import BaseTrial

from pgolf.optim.swa import Swa


def swa(trial: BaseTrial, at: str) -> Swa | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return Swa(
        below_scale=trial.suggest_float(f"{at}.below_scale", 0.2, 0.6),
        every_fraction=trial.suggest_float(f"{at}.every_fraction", 0.005, 0.05, log=True),
    )
