"""Cross-layer carry, learned from plain recurrence: nothing in it is searched. Constants are a recipe's."""

from optuna.trial import BaseTrial

from pgolf.model.cross_carry import CrossCarry


def cross_carry(trial: BaseTrial, at: str) -> CrossCarry:
    return CrossCarry()
