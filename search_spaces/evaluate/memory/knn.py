"""Ranges of the cache of states."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.knn import Knn
from search_spaces.evaluate.memory.trust import trust


def knn(trial: BaseTrial, at: str) -> Knn:
    return Knn(
        mix=trial.suggest_float(f"{at}.mix", 0.02, 0.5, log=True),
        sharpness=trial.suggest_float(f"{at}.sharpness", 10.0, 200.0, log=True),
        care=trial.suggest_float(f"{at}.care", 0.0, 1.0),
        gate=trust(trial, f"{at}.gate"),
    )
