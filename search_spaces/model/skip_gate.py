"""Gated skips: on or off."""

from optuna.trial import BaseTrial

from pgolf.model.skip_gate import SkipGate


def skip_gate(trial: BaseTrial, at: str) -> SkipGate | None:
    return SkipGate() if trial.suggest_categorical(f"{at}.on", [False, True]) else None
