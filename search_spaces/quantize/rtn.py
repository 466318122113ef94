"""RTN has no settings of its own beside its grids."""

from optuna.trial import BaseTrial

from pgolf.quantize.rtn import Rtn
from search_spaces.quantize.grids import grids


def rtn(trial: BaseTrial, at: str, gated: bool = False, switches: bool = False) -> Rtn:
    return Rtn(grids=grids(trial, f"{at}.grids", gated, switches))
