"""Quantized gates: float16, or 4 to 8 bits."""

from optuna.trial import BaseTrial

from pgolf.quantize.quant_gate import QuantGate


def quant_gate(trial: BaseTrial, at: str) -> QuantGate | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return QuantGate(bits=trial.suggest_int(f"{at}.bits", 4, 8))
