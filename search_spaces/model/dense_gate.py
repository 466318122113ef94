"""Ranges of the dense gate: how far from one half it begins."""

from optuna.trial import BaseTrial

from pgolf.model.dense_gate import DenseGate


def dense_gate(trial: BaseTrial, at: str) -> DenseGate:
    return DenseGate(init_std=trial.suggest_float(f"{at}.init_std", 0.001, 0.02, log=True))
