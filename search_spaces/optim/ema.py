"""Ranges of the averaging window, or none. `switches` offers a decay per step beside it, as the records'."""

from optuna.trial import BaseTrial

from pgolf.optim.ema import Ema


def ema(trial: BaseTrial, at: str, switches: bool = False) -> Ema | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if switches and not trial.suggest_categorical(f"{at}.window_fraction.on", [False, True]):
        return Ema(decay=trial.suggest_float(f"{at}.decay", 0.98, 0.999))
    return Ema(window_fraction=trial.suggest_float(f"{at}.window_fraction", 0.02, 0.12))
