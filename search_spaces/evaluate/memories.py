"""Which memory, if any; what remembers documents one by one only where they are opened so."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memories import Memory
from search_spaces.evaluate.memory.backoff import backoff
from search_spaces.evaluate.memory.context_mixing import context_mixing
from search_spaces.evaluate.memory.knn import knn
from search_spaces.evaluate.memory.match_model import match_model
from search_spaces.evaluate.memory.ppm import ppm
from search_spaces.evaluate.memory.token_tilt import token_tilt
from search_spaces.evaluate.memory.unigram_cache import unigram_cache

SPACES = {f.__name__: f for f in (token_tilt, match_model, backoff, ppm, context_mixing, unigram_cache, knn)}


def memories(trial: BaseTrial, at: str) -> Memory | None:
    """Of a mode that opens documents."""
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return SPACES[trial.suggest_categorical(f"{at}.kind", list(SPACES))](trial, at)
