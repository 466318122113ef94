"""The optimizer's joint space.

Always asked: what short runs can judge too. `switches` adds what only full-length runs can, and what has a
low prior and would be on in most random trials if each were asked with even odds. `heads` is for networks
with training-only heads.
"""

from optuna.trial import BaseTrial

from pgolf.optim.optimizer import Optim
from search_spaces.optim.adam import adam
from search_spaces.optim.ema import ema
from search_spaces.optim.muon import muon
from search_spaces.optim.schedule import schedule
from search_spaces.optim.swa import swa


def optim(trial: BaseTrial, at: str, switches: bool = False, heads: bool = False) -> Optim:
    moving = ema(trial, f"{at}.ema", switches)
    mean = swa(trial, f"{at}.swa") if switches else None
    clipped = switches and trial.suggest_categorical(f"{at}.grad_clip.on", [False, True])
    return Optim(
        muon=muon(trial, f"{at}.muon", switches),
        adam=adam(trial, f"{at}.adam", heads, switches),
        schedule=schedule(trial, f"{at}.schedule", bool(moving or mean), switches),
        ema=moving,
        swa=mean,
        blend=trial.suggest_float(f"{at}.blend", 0.0, 1.0) if moving and mean else None,
        grad_clip=trial.suggest_float(f"{at}.grad_clip", 0.1, 1.0) if clipped else None,
        grad_clip_scope=trial.suggest_categorical(f"{at}.grad_clip_scope", [None, "local"])
        if clipped
        else None,
    )
