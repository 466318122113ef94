"""Whether attention gives up its own value's direction, wholly or as far as it learns to."""

from optuna.trial import BaseTrial

from pgolf.model.attention import SelfExclusion
from search_spaces.model.gated_xsa import gated_xsa
from search_spaces.model.xsa import xsa


def self_exclusion(trial: BaseTrial, at: str, layers: int) -> SelfExclusion | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if trial.suggest_categorical(f"{at}.kind", ["xsa", "gated_xsa"]) == "xsa":
        return xsa(trial, at, layers)
    return gated_xsa(trial, at, layers)
