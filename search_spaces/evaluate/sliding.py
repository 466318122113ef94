"""Ranges of sliding evaluation: contexts as trained, half as much again, and twice that, stride as a share of it."""

from optuna.trial import BaseTrial

from pgolf.evaluate.sliding import Sliding


def sliding(trial: BaseTrial, at: str, trained: int, finest: int = 4) -> Sliding:
    return Sliding(
        context=trial.suggest_categorical(f"{at}.context", [trained, trained * 3 // 2, 2 * trained]),
        stride=trial.suggest_categorical(
            f"{at}.stride", [trained // n for n in (32, 4, 2, 1) if n <= finest][::-1]
        ),
    )
