"""Ranges of text that the model writes: how bold it is."""

from optuna.trial import BaseTrial

from pgolf.quantize.self_generated import SelfGenerated


def self_generated(trial: BaseTrial, at: str) -> SelfGenerated:
    return SelfGenerated(temperature=trial.suggest_float(f"{at}.temperature", 0.6, 1.2))
