"""Ranges of the balance between a memory and what is below, and whether there is one."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.trust import Trust


def trust(trial: BaseTrial, at: str) -> Trust | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return Trust(
        belief=trial.suggest_float(f"{at}.belief", 0.1, 0.9),
        share_rate=trial.suggest_float(f"{at}.share_rate", 1e-3, 0.2, log=True),
    )
