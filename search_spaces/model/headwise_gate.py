"""The headwise gate has no settings."""

from optuna.trial import BaseTrial

from pgolf.model.headwise_gate import HeadwiseGate


def headwise_gate(trial: BaseTrial, at: str) -> HeadwiseGate:
    return HeadwiseGate()
