"""The optimizer's joint space."""

from optuna.trial import BaseTrial

from pgolf.optim.optimizer import Optim
from search_spaces.optim.adam import adam
from search_spaces.optim.ema import ema
from search_spaces.optim.muon import muon
from search_spaces.optim.schedule import schedule


def optim(trial: BaseTrial, at: str) -> Optim:
    averaging = ema(trial, f"{at}.ema")
    return Optim(
        muon=muon(trial, f"{at}.muon"),
        adam=adam(trial, f"{at}.adam"),
        schedule=schedule(trial, f"{at}.schedule", averaged=averaging is not None),
        ema=averaging,
    )
