"""Ranges of the lossless SentencePiece vocabulary: its size."""

from collections.abc import Sequence

from optuna.trial import BaseTrial

from pgolf.data.sp_bpe import SpBpe


def sp_bpe(trial: BaseTrial, at: str, sizes: Sequence[int]) -> SpBpe:
    return SpBpe(vocab_size=trial.suggest_categorical(f"{at}.vocab_size", list(sizes)))
