"""Ranges of calibration: whose text, how much of it, and how much for the Fisher information. Given only where used."""

from optuna.trial import BaseTrial

from pgolf.quantize.calibrate import Calibrate, Fisher, TrainingText
from pgolf.quantize.self_generated import SelfGenerated
from search_spaces.quantize.self_generated import self_generated

MOST_WRITTEN = 16_384  # tokens: the model reads its whole past again for each that it writes


def calibrate(trial: BaseTrial, at: str, context: int, fisher: bool = False, full: bool = False) -> Calibrate:
    """`fisher`, `full`: what the quantizer needs measured beside Hessians."""
    tokens = trial.suggest_categorical(
        f"{at}.tokens", [4096, 16_384, 65_536, *([262_144] if context >= 1024 else [])]
    )
    source: TrainingText | SelfGenerated = TrainingText()
    if tokens <= MOST_WRITTEN:
        kind = trial.suggest_categorical(f"{at}.source.kind", ["training_text", "self_generated"])
        if kind == "self_generated":
            source = self_generated(trial, f"{at}.source")
    measured = None
    if fisher:
        passes = trial.suggest_int(f"{at}.fisher.tokens", 4096, min(tokens, 65_536), step=4096)
        measured = Fisher(tokens=passes, full=full)
    return Calibrate(tokens=tokens, context=context, source=source, fisher=measured)
