"""Ranges of the grids that end at an order statistic of the row: bits alone."""

from optuna.trial import BaseTrial

from pgolf.quantize.clip_search import ClipSearch, RowMax


def clip_search(trial: BaseTrial, at: str) -> ClipSearch:
    return ClipSearch(bits=trial.suggest_int(f"{at}.bits", 4, 8))


def row_max(trial: BaseTrial, at: str) -> RowMax:
    return RowMax(bits=trial.suggest_int(f"{at}.bits", 4, 8))
