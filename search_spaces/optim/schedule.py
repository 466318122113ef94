"""Ranges of the schedule. A floor under the rate is offered only where averaging stands behind it; `switches`
offers the forms of the warmdown that no record has. Warmup is left out: it hurt at every length (PR 2071)."""

from optuna.trial import BaseTrial

from pgolf.optim.schedule import Schedule


def schedule(trial: BaseTrial, at: str, averaged: bool, switches: bool = False) -> Schedule:
    forms = [None, "one_minus_sqrt", "cosine"]
    return Schedule(
        warmdown_fraction=trial.suggest_float(f"{at}.warmdown_fraction", 0.4, 1.0),
        warmdown_form=trial.suggest_categorical(f"{at}.warmdown_form", forms) if switches else None,
        min_lr=trial.suggest_float(f"{at}.min_lr", 0.0, 0.15) if averaged else 0.0,
    )
