"""Ranges of GPTQ: its grids and the damping."""

from optuna.trial import BaseTrial

from pgolf.quantize.gptq import Gptq
from search_spaces.quantize.grids import grids


def gptq(trial: BaseTrial, at: str, gated: bool = False) -> Gptq:
    return Gptq(
        grids=grids(trial, f"{at}.grids", gated),
        damping=trial.suggest_float(f"{at}.damping", 0.002, 0.05, log=True),
    )
