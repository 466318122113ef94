"""Which quantizer, and the calibration that goes with it."""

from optuna.trial import BaseTrial

from pgolf.quantize.calibrate import Calibrate
from pgolf.quantize.stage import Quantizer
from search_spaces.quantize.calibrate import calibrate
from search_spaces.quantize.gptq import gptq
from search_spaces.quantize.rtn import rtn


def quantizer(
    trial: BaseTrial, at: str, context: int, gated: bool = False
) -> tuple[Quantizer, Calibrate | None]:
    if trial.suggest_categorical(f"{at}.kind", ["gptq", "rtn"]) == "rtn":
        return rtn(trial, at, gated), None
    return gptq(trial, at, gated), calibrate(trial, "calibrate", context)
