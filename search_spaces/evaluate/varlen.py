"""Ranges of disjoint segments of documents."""

from optuna.trial import BaseTrial

from pgolf.evaluate.varlen import Varlen


def varlen(trial: BaseTrial, at: str, trained: int) -> Varlen:
    return Varlen(
        context=trial.suggest_categorical(f"{at}.context", [trained, trained * 3 // 2, 2 * trained])
    )
