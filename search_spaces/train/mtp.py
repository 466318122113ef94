"""Ranges of multi-token prediction, or none: no gain is certain, and each head costs a step's logits again."""

from optuna.trial import BaseTrial

from pgolf.train.mtp import Mtp


def mtp(trial: BaseTrial, at: str) -> Mtp | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return Mtp(
        heads=trial.suggest_int(f"{at}.heads", 1, 2),
        weight=trial.suggest_float(f"{at}.weight", 0.02, 0.3, log=True),
    )
