"""Which hashed n-gram table, if any. Worth its bytes with small vocabularies only."""

from optuna.trial import BaseTrial

from pgolf.model.gpt import Ngrams
from search_spaces.model.bigram_hash import bigram_hash
from search_spaces.model.engram import engram

MOST_TOKENS = 4096  # of the vocabulary: from there on the gain was nothing (PR 1218)


def ngrams(trial: BaseTrial, at: str, vocab_size: int) -> Ngrams | None:
    if vocab_size > MOST_TOKENS or not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    if trial.suggest_categorical(f"{at}.kind", ["bigram_hash", "engram"]) == "bigram_hash":
        return bigram_hash(trial, at)
    return engram(trial, at)
