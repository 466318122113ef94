"""A grid for each role."""

from optuna.trial import BaseTrial

from pgolf.quantize.grids import RoleGrids
from search_spaces.quantize.quant_gate import quant_gate
from search_spaces.quantize.sd_clip import sd_clip


def grids(trial: BaseTrial, at: str, gated: bool = False) -> RoleGrids:
    """`gated`: the network has head gates, whose matrices may be quantized too."""
    return RoleGrids(
        embedding=sd_clip(trial, f"{at}.embedding"),
        attention=sd_clip(trial, f"{at}.attention"),
        mlp=sd_clip(trial, f"{at}.mlp"),
        gate=quant_gate(trial, f"{at}.gate") if gated else None,
    )
