"""Ranges of the tied table's initial scale."""

from optuna.trial import BaseTrial

from pgolf.model.embedding import Embedding


def embedding(trial: BaseTrial, at: str) -> Embedding:
    return Embedding(init_std=trial.suggest_float(f"{at}.init_std", 0.002, 0.05, log=True))
