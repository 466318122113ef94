"""Ranges of GPTQ: its grids and the damping; what else it has is open with `switches`."""

from optuna.trial import BaseTrial

from pgolf.quantize.gptq import Gptq, RoleDamping
from search_spaces.quantize.grids import grids
from search_spaces.quantize.protected_columns import protected_columns


def gptq(trial: BaseTrial, at: str, gated: bool = False, switches: bool = False) -> Gptq:
    plain = Gptq(grids=grids(trial, f"{at}.grids", gated, switches))
    if not switches:
        return plain.but(damping=_damping(trial, f"{at}.damping"))
    dampings = _dampings(trial, f"{at}.dampings")
    one = {} if dampings is not None else {"damping": _damping(trial, f"{at}.damping")}
    return plain.but(
        dampings=dampings,
        act_order=trial.suggest_categorical(f"{at}.act_order", [True, False]),
        protect=protected_columns(trial, f"{at}.protect"),
        tied=trial.suggest_categorical(f"{at}.tied", ["head", "both", "rounded"]),
        **one,
    )


def _damping(trial: BaseTrial, at: str) -> float:
    return trial.suggest_float(at, 0.001, 0.1, log=True)


def _dampings(trial: BaseTrial, at: str) -> RoleDamping | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return RoleDamping(
        embedding=_damping(trial, f"{at}.embedding"),
        attention=_damping(trial, f"{at}.attention"),
        mlp=_damping(trial, f"{at}.mlp"),
    )
