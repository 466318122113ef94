"""The entropy coder of weights has no settings: it looks for its own."""

from optuna.trial import BaseTrial

from pgolf.pack.ans_packer import AnsPacker


def ans_packer(trial: BaseTrial, at: str) -> AnsPacker:
    return AnsPacker()
