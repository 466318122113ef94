"""Where the marks of mergeable case stand, and what they may share a piece with."""

from collections.abc import Sequence

from optuna.trial import BaseTrial

from pgolf.data.case_marks import CaseMarks
from search_spaces.data.case_ops import base


def case_marks(trial: BaseTrial, at: str, sizes: Sequence[int]) -> CaseMarks:
    return CaseMarks(
        base=base(trial, f"{at}.base", sizes),
        before_space=trial.suggest_categorical(f"{at}.before_space", [True, False]),
        merges_with=trial.suggest_categorical(f"{at}.merges_with", ["punctuation", "words"]),
    )
