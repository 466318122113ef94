"""Which parallel form of the late blocks, if any. It begins after the recurrent band, in the decoder."""

from optuna.trial import BaseTrial

from pgolf.model.gpt import Parallel
from pgolf.model.recurrence import Recurrence
from search_spaces.model.parallel_residual import parallel_residual
from search_spaces.model.two_lane import two_lane


def parallel(trial: BaseTrial, at: str, layers: int, recurrence: Recurrence | None) -> Parallel | None:
    """Off where no layer is left for it."""
    least = max(layers // 2, recurrence.last + 1 if recurrence else 0)
    if least >= layers or not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if trial.suggest_categorical(f"{at}.kind", ["two_lane", "parallel_residual"]) == "two_lane":
        return two_lane(trial, at, least, layers)
    return parallel_residual(trial, at, least, layers)
