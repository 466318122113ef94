"""Ranges of the embedding's initial spectrum, or none."""

from optuna.trial import BaseTrial

from pgolf.model.overtone import Overtone


def overtone(trial: BaseTrial, at: str) -> Overtone | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return Overtone(power=trial.suggest_float(f"{at}.power", 0.1, 1.0))
