"""LN scale: on or off. Helps large runs, hurts very small ones."""

from optuna.trial import BaseTrial

from pgolf.model.ln_scale import LnScale


def ln_scale(trial: BaseTrial, at: str) -> LnScale | None:
    return LnScale() if trial.suggest_categorical(f"{at}.on", [False, True]) else None
