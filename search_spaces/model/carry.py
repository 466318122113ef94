"""Which carry between the passes of a recurrent band, if any."""

from optuna.trial import BaseTrial

from pgolf.model.recurrence import Carry
from search_spaces.model.cross_carry import cross_carry
from search_spaces.model.recur_alpha import recur_alpha


def carry(trial: BaseTrial, at: str) -> Carry | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if trial.suggest_categorical(f"{at}.kind", ["cross_carry", "recur_alpha"]) == "cross_carry":
        return cross_carry(trial, at)
    return recur_alpha(trial, at)
