"""Ranges of the weight decay's taper, or none."""

from optuna.trial import BaseTrial

from pgolf.optim.decay_taper import DecayTaper


def decay_taper(trial: BaseTrial, at: str) -> DecayTaper | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return DecayTaper(
        start_fraction=trial.suggest_float(f"{at}.start_fraction", 0.3, 0.9),
        end=trial.suggest_float(f"{at}.end", 0.0, 1.75),
    )
