"""Ranges of the softcap: 10 to 50, or none. Flat around 30."""

from optuna.trial import BaseTrial

from pgolf.model.softcap import Softcap


def softcap(trial: BaseTrial, at: str) -> Softcap | None:
    if not trial.suggest_categorical(f"{at}.on", [True, False]):
        return None
    return Softcap(cap=trial.suggest_float(f"{at}.cap", 10.0, 50.0))
