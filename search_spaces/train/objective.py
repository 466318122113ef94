"""What is minimized: plain cross-entropy, which has won so far, or it with techniques."""

from optuna.trial import BaseTrial

from pgolf.train.objective import Objective
from search_spaces.train.focal import focal
from search_spaces.train.label_smoothing import label_smoothing
from search_spaces.train.mtp import mtp
from search_spaces.train.token_weighting import token_weighting
from search_spaces.train.z_loss import z_loss


def objective(trial: BaseTrial, at: str) -> Objective:
    return Objective(
        z_loss=z_loss(trial, f"{at}.z_loss"),
        label_smoothing=label_smoothing(trial, f"{at}.label_smoothing"),
        focal=focal(trial, f"{at}.focal"),
        token_weighting=token_weighting(trial, f"{at}.token_weighting"),
        mtp=mtp(trial, f"{at}.mtp"),
    )
