"""A batch size under a fixed number of training tokens: the steps follow."""

from collections.abc import Sequence

from optuna.trial import BaseTrial

from pgolf.train.budget import Steps
from pgolf.train.loop import Train


def budget(trial: BaseTrial, at: str, base: Train, *, tokens: int, batches: Sequence[int]) -> Train:
    batch = trial.suggest_categorical(f"{at}.batch_tokens", list(batches))
    return base.but(batch_tokens=batch, budget=Steps(steps=tokens // batch))
