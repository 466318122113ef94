"""Ranges of the output gate: how many channels of what it reads."""

from optuna.trial import BaseTrial

from pgolf.model.output_gate import OutputGate


def output_gate(trial: BaseTrial, at: str) -> OutputGate:
    return OutputGate(
        window=trial.suggest_int(f"{at}.window", 8, 64, log=True),
        source=trial.suggest_categorical(f"{at}.source", ["input", "query"]),
    )
