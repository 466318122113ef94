"""Ranges of disjoint blocks."""

from optuna.trial import BaseTrial

from pgolf.evaluate.blocks import Blocks


def blocks(trial: BaseTrial, at: str, trained: int) -> Blocks:
    return Blocks(
        context=trial.suggest_categorical(f"{at}.context", [trained, trained * 3 // 2, 2 * trained])
    )
