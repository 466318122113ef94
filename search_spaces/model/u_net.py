"""U-Net skips: on or off."""

from optuna.trial import BaseTrial

from pgolf.model.u_net import UNet


def u_net(trial: BaseTrial, at: str) -> UNet | None:
    return UNet() if trial.suggest_categorical(f"{at}.on", [True, False]) else None
