"""Ranges of the gradient power, or none: above 1 it was worse wherever it was tried under Muon."""

from optuna.trial import BaseTrial

from pgolf.optim.gradient_power import GradientPower


def gradient_power(trial: BaseTrial, at: str) -> GradientPower | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return GradientPower(exponent=trial.suggest_float(f"{at}.exponent", 0.8, 1.1))
