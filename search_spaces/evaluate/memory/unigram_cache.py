"""Ranges of the bias on the output."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.unigram_cache import UnigramCache
from search_spaces.evaluate.memory.trust import trust


def unigram_cache(trial: BaseTrial, at: str) -> UnigramCache:
    return UnigramCache(
        strength=trial.suggest_float(f"{at}.strength", 0.0, 0.3),
        rate=trial.suggest_float(f"{at}.rate", 0.005, 0.2, log=True),
        share_documents=trial.suggest_categorical(f"{at}.share_documents", [False, True]),
        gate=trust(trial, f"{at}.gate"),
    )
