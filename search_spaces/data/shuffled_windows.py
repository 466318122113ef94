"""Shuffled windows have nothing to set."""

from optuna.trial import BaseTrial

from pgolf.data.shuffled_windows import ShuffledWindows


def shuffled_windows(trial: BaseTrial, at: str) -> ShuffledWindows:
    return ShuffledWindows()
