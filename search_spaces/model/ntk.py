"""NTK scaling for windows of `used` positions: meant for the whole of them, a half or a quarter."""

from optuna.trial import BaseTrial

from pgolf.model.ntk import Ntk


def ntk(trial: BaseTrial, at: str, used: int) -> Ntk:
    return Ntk(
        train_length=trial.suggest_categorical(f"{at}.train_length", [used // 2, used // 4]), used_length=used
    )
