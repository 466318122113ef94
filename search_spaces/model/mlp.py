"""Ranges of the MLP: mult 2 to 5 in quarters, slope 0 (relu^2) to 1. Widths and slopes by block are a recipe's."""

from optuna.trial import BaseTrial

from pgolf.model.mlp import Mlp


def mlp(trial: BaseTrial, at: str) -> Mlp:
    return Mlp(
        mult=trial.suggest_float(f"{at}.mult", 2.0, 5.0, step=0.25),
        negative_slope=trial.suggest_float(f"{at}.negative_slope", 0.0, 1.0),
    )
