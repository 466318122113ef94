"""Ranges of the match model."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.match_model import MatchModel
from search_spaces.evaluate.memory.gate import gate
from search_spaces.listed import listed

LENGTHS = {"short": (2, 3, 4, 6, 8, 16), "middle": (4, 6, 8, 12, 16, 24, 32), "long": (8, 16, 24, 32)}


def match_model(trial: BaseTrial, at: str) -> MatchModel:
    return MatchModel(
        lengths=listed(trial, f"{at}.lengths", list(LENGTHS.values())),
        trust=trial.suggest_float(f"{at}.trust", 1.0, 64.0, log=True),
        gate=gate(trial, f"{at}.gate"),
        share_documents=trial.suggest_categorical(f"{at}.share_documents", [False, True]),
    )
