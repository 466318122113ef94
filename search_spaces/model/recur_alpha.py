"""Ranges of recur-alpha: what is kept from pass to pass."""

from optuna.trial import BaseTrial

from pgolf.model.recur_alpha import RecurAlpha


def recur_alpha(trial: BaseTrial, at: str) -> RecurAlpha:
    return RecurAlpha(kept=trial.suggest_categorical(f"{at}.kept", ["previous", "first"]))
