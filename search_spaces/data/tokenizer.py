"""Which kind of tokenizer, and the vocabulary's size. With one kind, the kind is not asked for."""

from collections.abc import Callable, Sequence
from typing import Literal

from optuna.trial import BaseTrial

from pgolf.data.tokenizer import AnyTokenizer
from search_spaces.data.case_marks import case_marks
from search_spaces.data.case_ops import case_ops
from search_spaces.data.cross_ws import cross_ws
from search_spaces.data.sp_bpe import sp_bpe
from search_spaces.data.sp_official import sp_official

Kind = Literal["sp_bpe", "sp_official", "cross_ws", "case_ops", "case_marks"]
SPACES: dict[str, Callable[..., AnyTokenizer]] = {
    "sp_bpe": sp_bpe,
    "sp_official": sp_official,
    "cross_ws": cross_ws,
    "case_ops": case_ops,
    "case_marks": case_marks,
}


def tokenizer(
    trial: BaseTrial, at: str, sizes: Sequence[int], kinds: Sequence[Kind] = ("sp_bpe",)
) -> AnyTokenizer:
    """One of `kinds` at one of `sizes`. Kinds differ in tokens per byte, so budget by bytes or seconds,
    not tokens, where there is more than one."""
    kind = kinds[0] if len(kinds) == 1 else trial.suggest_categorical(f"{at}.kind", list(kinds))
    return SPACES[kind](trial, at, sizes)
