"""Ranges of the residual mix's start by depth, or none."""

from optuna.trial import BaseTrial

from pgolf.model.phase_mix import PhaseMix


def phase_mix(trial: BaseTrial, at: str) -> PhaseMix | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return PhaseMix(slope=trial.suggest_float(f"{at}.slope", 0.5, 6.0))
