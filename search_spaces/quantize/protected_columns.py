"""Ranges of protected columns: off, or up to eight groups of 32 to 128."""

from optuna.trial import BaseTrial

from pgolf.quantize.protected_columns import ProtectedColumns


def protected_columns(trial: BaseTrial, at: str) -> ProtectedColumns | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return ProtectedColumns(
        group=trial.suggest_categorical(f"{at}.group", [32, 64, 128]),
        top_k=trial.suggest_int(f"{at}.top_k", 1, 8),
        scope=trial.suggest_categorical(f"{at}.scope", ["per_matrix", "global"]),
    )
