"""Ranges of the averaging window, as a fraction of the run, or none."""

from optuna.trial import BaseTrial

from pgolf.optim.ema import Ema


def ema(trial: BaseTrial, at: str) -> Ema | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return Ema(window_fraction=trial.suggest_float(f"{at}.window_fraction", 0.02, 0.12))
