"""Warm-up steps, or none, and whether Muon's momentum outlives them."""

from optuna.trial import BaseTrial

from pgolf.train.warmup import Warmup


def warmup(trial: BaseTrial, at: str) -> Warmup | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return Warmup(
        steps=trial.suggest_int(f"{at}.steps", 5, 40, log=True),
        keep_momentum=trial.suggest_categorical(f"{at}.keep_momentum", [False, True]),
    )
