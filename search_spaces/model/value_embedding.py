"""Ranges of the value embedding, in the last two layers, or none; not above 4,096 tokens."""

from optuna.trial import BaseTrial

from pgolf.model.value_embedding import ValueEmbedding
from search_spaces.model.ngrams import MOST_TOKENS


def value_embedding(trial: BaseTrial, at: str, vocab_size: int, layers: int) -> ValueEmbedding | None:
    if vocab_size > MOST_TOKENS or not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return ValueEmbedding(
        rank=trial.suggest_int(f"{at}.rank", 32, 128, step=32),
        layers=tuple(range(max(layers - 2, 0), layers)),
        zero=trial.suggest_categorical(f"{at}.zero", [False, True]),
    )
