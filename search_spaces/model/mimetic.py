"""Ranges of the mimetic start."""

from optuna.trial import BaseTrial

from pgolf.model.mimetic import Mimetic


def mimetic(trial: BaseTrial, at: str) -> Mimetic:
    return Mimetic(strength=trial.suggest_float(f"{at}.strength", 0.01, 0.5, log=True))
