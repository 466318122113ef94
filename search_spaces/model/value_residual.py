"""Which form of the value residual, if any. Only where nothing is on that it does not go with."""

from optuna.trial import BaseTrial

from pgolf.model.value_residual import ValueResidual


def value_residual(trial: BaseTrial, at: str) -> ValueResidual | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return ValueResidual(form=trial.suggest_categorical(f"{at}.form", ["sigmoid", "additive", "convex"]))
