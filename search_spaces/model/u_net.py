"""U-Net skips: on or off, added or blended."""

from optuna.trial import BaseTrial

from pgolf.model.u_net import UNet
from search_spaces.model.skip_gate import skip_gate


def u_net(trial: BaseTrial, at: str, *, frontier: bool = False) -> UNet | None:
    if not trial.suggest_categorical(f"{at}.on", [True, False]):
        return None
    return UNet(gate=skip_gate(trial, f"{at}.gate") if frontier else None)
