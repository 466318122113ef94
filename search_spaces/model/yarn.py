"""YaRN for windows of `used` positions: meant for a half or a quarter of them, with either ramp."""

from optuna.trial import BaseTrial

from pgolf.model.yarn import Yarn


def yarn(trial: BaseTrial, at: str, used: int) -> Yarn:
    return Yarn(
        train_length=trial.suggest_categorical(f"{at}.train_length", [used // 2, used // 4]),
        used_length=used,
        ramp=trial.suggest_categorical(f"{at}.ramp", ["wavelength", "index"]),
    )
