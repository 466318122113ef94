"""Ranges of the smear gate: 4 to 64 channels read (12 in the records)."""

from optuna.trial import BaseTrial

from pgolf.model.smear_gate import SmearGate


def smear_gate(trial: BaseTrial, at: str) -> SmearGate:
    return SmearGate(window=trial.suggest_int(f"{at}.window", 4, 64, log=True))
