"""Ranges of the rate-distortion solver: no clip is among them, and the rules say how many bytes there are."""

from optuna.trial import BaseTrial

from pgolf.quantize.rate_distortion import RateDistortion
from search_spaces.quantize.forms import forms


def rate_distortion(trial: BaseTrial, at: str) -> RateDistortion:
    return RateDistortion(
        form=forms(trial, f"{at}.form"),
        damping=trial.suggest_float(f"{at}.damping", 0.002, 0.05, log=True),
        rate_aware=trial.suggest_float(f"{at}.rate_aware", 0.0, 2.0, step=0.25),
    )
