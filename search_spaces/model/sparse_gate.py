"""Ranges of the sparse gate: 8 to 64 channels read (12 in the records), scale 1/4 to 2."""

from optuna.trial import BaseTrial

from pgolf.model.sparse_gate import SparseGate


def sparse_gate(trial: BaseTrial, at: str) -> SparseGate:
    return SparseGate(
        window=trial.suggest_int(f"{at}.window", 8, 64, log=True),
        scale=trial.suggest_float(f"{at}.scale", 0.25, 2.0, log=True),
    )
