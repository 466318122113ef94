"""A grid for each role."""

from optuna.trial import BaseTrial

from pgolf.quantize.grids import RoleGrids
from search_spaces.quantize.sd_clip import sd_clip


def grids(trial: BaseTrial, at: str) -> RoleGrids:
    return RoleGrids(
        embedding=sd_clip(trial, f"{at}.embedding"),
        attention=sd_clip(trial, f"{at}.attention"),
        mlp=sd_clip(trial, f"{at}.mlp"),
    )
