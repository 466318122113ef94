"""Ranges of calibration: how many training tokens the Hessians see. Given only where they are used."""

from optuna.trial import BaseTrial

from pgolf.quantize.calibrate import Calibrate


def calibrate(trial: BaseTrial, at: str, context: int) -> Calibrate:
    return Calibrate(
        tokens=trial.suggest_categorical(
            f"{at}.tokens", [4096, 16_384, 65_536, *([262_144] if context >= 1024 else [])]
        ),
        context=context,
    )
