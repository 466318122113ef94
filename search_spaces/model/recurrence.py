"""Ranges of depth recurrence: a band of one to four middle blocks, run two to four times, from when."""

from optuna.trial import BaseTrial

from pgolf.model.recurrence import Recurrence


def recurrence(trial: BaseTrial, at: str, layers: int) -> Recurrence | None:
    """Off for fewer than four layers: no middle to repeat. The optimum of the start is near 0.35 to 0.5."""
    if layers < 4 or not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    first = trial.suggest_int(f"{at}.first", 1, layers - 2)
    return Recurrence(
        first=first,
        last=trial.suggest_int(f"{at}.last", first, min(first + 3, layers - 2)),
        passes=trial.suggest_int(f"{at}.passes", 2, 4),
        from_fraction=trial.suggest_float(f"{at}.from_fraction", 0.0, 0.7),
        stagger_fraction=trial.suggest_float(f"{at}.stagger_fraction", 0.0, 0.09),
    )
