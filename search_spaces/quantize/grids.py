"""A grid for each role."""

from optuna.trial import BaseTrial

from pgolf.quantize.grids import Grid, RoleGrids
from search_spaces.quantize.clip_search import clip_search, row_max
from search_spaces.quantize.quant_gate import quant_gate
from search_spaces.quantize.sd_clip import sd_clip


def grids(trial: BaseTrial, at: str, gated: bool = False, switches: bool = False) -> RoleGrids:
    """`gated`: the network has head gates, whose matrices may be quantized too.

    `switches`: other rules than SDClip are open, by role; under an entropy coder they have a low prior.
    """
    return RoleGrids(
        embedding=_grid(trial, f"{at}.embedding", switches),
        attention=_grid(trial, f"{at}.attention", switches),
        mlp=_grid(trial, f"{at}.mlp", switches),
        gate=quant_gate(trial, f"{at}.gate") if gated else None,
    )


def _grid(trial: BaseTrial, at: str, switches: bool) -> Grid:
    if not switches:
        return sd_clip(trial, at)
    kind = trial.suggest_categorical(f"{at}.kind", ["sd_clip", "clip_search", "row_max"])
    if kind == "clip_search":
        return clip_search(trial, at)
    return row_max(trial, at) if kind == "row_max" else sd_clip(trial, at)
