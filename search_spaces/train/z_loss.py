"""Ranges of the z-loss, or none."""

from optuna.trial import BaseTrial

from pgolf.train.z_loss import ZLoss


def z_loss(trial: BaseTrial, at: str) -> ZLoss | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return ZLoss(coefficient=trial.suggest_float(f"{at}.coefficient", 1e-5, 1e-3, log=True))
