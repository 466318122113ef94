"""How output projections begin, if not at zero."""

from optuna.trial import BaseTrial

from pgolf.model.gpt import OutputInit
from search_spaces.model.deep_orthogonal import deep_orthogonal
from search_spaces.model.mimetic import mimetic


def output_init(trial: BaseTrial, at: str) -> OutputInit | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if trial.suggest_categorical(f"{at}.kind", ["mimetic", "deep_orthogonal"]) == "mimetic":
        return mimetic(trial, at)
    return deep_orthogonal(trial, at)
