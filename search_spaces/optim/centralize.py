"""Gradient centralization: on or off."""

from optuna.trial import BaseTrial

from pgolf.optim.centralize import Centralize


def centralize(trial: BaseTrial, at: str) -> Centralize | None:
    return Centralize() if trial.suggest_categorical(f"{at}.on", [False, True]) else None
