"""The elementwise gate has no settings; its matrix costs width^2 weights a layer."""

from optuna.trial import BaseTrial

from pgolf.model.elementwise_gate import ElementwiseGate


def elementwise_gate(trial: BaseTrial, at: str) -> ElementwiseGate:
    return ElementwiseGate()
