"""The sequential order has nothing to set."""

from optuna.trial import BaseTrial

from pgolf.data.sequential import Sequential


def sequential(trial: BaseTrial, at: str) -> Sequential:
    return Sequential()
