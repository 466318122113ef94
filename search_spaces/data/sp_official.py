"""Ranges of the community's SentencePiece: the vocabulary's size. Its other flags are what makes it official."""

from collections.abc import Sequence

from optuna.trial import BaseTrial

from pgolf.data.sp_official import SpOfficial


def sp_official(trial: BaseTrial, at: str, sizes: Sequence[int]) -> SpOfficial:
    return SpOfficial(vocab_size=trial.suggest_categorical(f"{at}.vocab_size", list(sizes)))
