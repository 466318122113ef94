"""Ranges of the factored embedding, or none: an eighth to a half of the width."""

from optuna.trial import BaseTrial

from pgolf.model.factored_embedding import FactoredEmbedding


def factored_embedding(trial: BaseTrial, at: str, width: int) -> FactoredEmbedding | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return FactoredEmbedding(rank=trial.suggest_int(f"{at}.rank", width // 8, width // 2))
