"""Ranges of the schedule. A floor under the rate is offered only where averaging stands behind it."""

from optuna.trial import BaseTrial

from pgolf.optim.schedule import Schedule


def schedule(trial: BaseTrial, at: str, averaged: bool) -> Schedule:
    return Schedule(
        warmdown_fraction=trial.suggest_float(f"{at}.warmdown_fraction", 0.4, 1.0),
        min_lr=trial.suggest_float(f"{at}.min_lr", 0.0, 0.15) if averaged else 0.0,
    )
