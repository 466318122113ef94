"""Which smear, if any."""

from optuna.trial import BaseTrial

from pgolf.model.gpt import Smear
from search_spaces.model.smear_blend import smear_blend
from search_spaces.model.smear_gate import smear_gate


def smear(trial: BaseTrial, at: str) -> Smear | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if trial.suggest_categorical(f"{at}.kind", ["smear_gate", "smear_blend"]) == "smear_gate":
        return smear_gate(trial, at)
    return smear_blend(trial, at)
