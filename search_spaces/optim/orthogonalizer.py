"""Which coefficients: classic, Polar Express or Turbo. The number of steps is asked by Muon, for all alike."""

from optuna.trial import BaseTrial

from pgolf.optim.orthogonalizer import Orthogonalizer, PolarExpress, Turbo


def orthogonalizer(trial: BaseTrial, at: str) -> Orthogonalizer | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if trial.suggest_categorical(f"{at}.kind", ["polar_express", "turbo"]) == "turbo":
        return Turbo(first=trial.suggest_int(f"{at}.first", 1, 2))
    return PolarExpress(margin=trial.suggest_categorical(f"{at}.margin", [1.0, 1.02]))
