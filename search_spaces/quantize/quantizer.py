"""Which quantizer, what it is wrapped in, and the calibration that they need together."""

from optuna.trial import BaseTrial

from pgolf.quantize.base import Plain
from pgolf.quantize.calibrate import Calibrate
from pgolf.quantize.stage import Quantizer
from pgolf.quantize.statistics import FISHER, FULL_FISHER
from search_spaces.quantize.calibrate import calibrate
from search_spaces.quantize.gptq import gptq
from search_spaces.quantize.lqer import lqer
from search_spaces.quantize.pruned import pruned
from search_spaces.quantize.rate_distortion import rate_distortion
from search_spaces.quantize.rtn import rtn

PLAIN = ("gptq", "rtn", "rate_distortion")


def quantizer(
    trial: BaseTrial, at: str, context: int, gated: bool = False, switches: bool = False
) -> tuple[Quantizer, Calibrate | None]:
    """`switches` adds what has a low prior and would be on in most random trials."""
    made = _chosen(trial, at, gated, switches, ("lqer", "pruned") if switches else ("lqer",))
    if not made.needs:
        return made, None
    fisher, full = FISHER in made.needs, FULL_FISHER in made.needs
    return made, calibrate(trial, "calibrate", context, fisher=fisher, full=full)


def _chosen(trial: BaseTrial, at: str, gated: bool, switches: bool, wrappers: tuple[str, ...]) -> Quantizer:
    """A parameter has the same choices wherever it comes up, so both wrappers hold what stands by itself."""
    kind = trial.suggest_categorical(f"{at}.kind", [*PLAIN, *wrappers])
    if kind not in wrappers:
        return _made(trial, at, kind, gated, switches)
    base = _plain(trial, f"{at}.base", gated, switches)
    return lqer(trial, at, base) if kind == "lqer" else pruned(trial, at, base)


def _plain(trial: BaseTrial, at: str, gated: bool, switches: bool) -> Plain:
    return _made(trial, at, trial.suggest_categorical(f"{at}.kind", PLAIN), gated, switches)


def _made(trial: BaseTrial, at: str, kind: str, gated: bool, switches: bool) -> Plain:
    if kind == "rate_distortion":
        return rate_distortion(trial, at)
    return rtn(trial, at, gated, switches) if kind == "rtn" else gptq(trial, at, gated, switches)
