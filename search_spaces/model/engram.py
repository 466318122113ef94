"""Ranges of Engram: tables of 1,024 to 8,192 rows a hash (larger ones burst the budget), 16 to 48 columns."""

from optuna.trial import BaseTrial

from pgolf.model.engram import Engram


def engram(trial: BaseTrial, at: str) -> Engram:
    return Engram(
        buckets=trial.suggest_int(f"{at}.buckets", 1024, 8192, step=1024),
        rank=trial.suggest_int(f"{at}.rank", 16, 48, step=8),
    )
