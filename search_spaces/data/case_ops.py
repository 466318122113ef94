"""CaseOps has no range of its own; whether the pieces under it may span words is a choice."""

from collections.abc import Sequence

from optuna.trial import BaseTrial

from pgolf.data.case_ops import CaseOps
from pgolf.data.cross_ws import CrossWs
from pgolf.data.sp_bpe import SpBpe
from search_spaces.data.cross_ws import cross_ws
from search_spaces.data.sp_bpe import sp_bpe


def case_ops(trial: BaseTrial, at: str, sizes: Sequence[int]) -> CaseOps:
    return CaseOps(base=base(trial, f"{at}.base", sizes))


def base(trial: BaseTrial, at: str, sizes: Sequence[int]) -> SpBpe | CrossWs:
    """A lossless kind for a case coding to hold."""
    if trial.suggest_categorical(f"{at}.kind", ["sp_bpe", "cross_ws"]) == "cross_ws":
        return cross_ws(trial, at, sizes)
    return sp_bpe(trial, at, sizes)
