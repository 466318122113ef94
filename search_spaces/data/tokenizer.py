"""Ranges of the tokenizer: the vocabulary's size."""

from collections.abc import Sequence

from optuna.trial import BaseTrial

from pgolf.data.tokenizer import SpBpe


def tokenizer(trial: BaseTrial, at: str, sizes: Sequence[int]) -> SpBpe:
    return SpBpe(vocab_size=trial.suggest_categorical(f"{at}.vocab_size", list(sizes)))
