"""Which scaling of RoPE, if any; for runs whose windows are `used` positions long, none where rows are packed."""

from optuna.trial import BaseTrial

from pgolf.model.rope import Scaling
from search_spaces.model.ntk import ntk
from search_spaces.model.yarn import yarn


def rope_scaling(trial: BaseTrial, at: str, used: int, packed: bool) -> Scaling | None:
    if packed or not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if trial.suggest_categorical(f"{at}.kind", ["ntk", "yarn"]) == "ntk":
        return ntk(trial, at, used)
    return yarn(trial, at, used)
