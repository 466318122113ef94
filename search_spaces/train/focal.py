"""Ranges of the focal loss, or none."""

from optuna.trial import BaseTrial

from pgolf.train.focal import Focal


def focal(trial: BaseTrial, at: str) -> Focal | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return Focal(gamma=trial.suggest_float(f"{at}.gamma", 0.1, 2.0, log=True))
