"""Residual control vectors: with or without the mix of the embedding, with or without branch gains."""

from optuna.trial import BaseTrial

from pgolf.model.residual import Residual


def residual(trial: BaseTrial, at: str) -> Residual:
    return Residual(
        mix=trial.suggest_categorical(f"{at}.mix", [True, False]),
        scales=trial.suggest_categorical(f"{at}.scales", [True, False]),
    )
