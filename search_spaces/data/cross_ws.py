"""CrossWS has no range of its own: what it holds has."""

from collections.abc import Sequence

from optuna.trial import BaseTrial

from pgolf.data.cross_ws import CrossWs
from search_spaces.data.sp_bpe import sp_bpe


def cross_ws(trial: BaseTrial, at: str, sizes: Sequence[int]) -> CrossWs:
    """Over the lossless kind, so that what it is worth can be certified."""
    return CrossWs(base=sp_bpe(trial, f"{at}.base", sizes))
