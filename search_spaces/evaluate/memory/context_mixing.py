"""Ranges of the mixture of experts."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.context_mixing import ContextMixing
from search_spaces.evaluate.memory.token_tilt import ORDERS
from search_spaces.listed import listed


def context_mixing(trial: BaseTrial, at: str) -> ContextMixing:
    return ContextMixing(
        orders=listed(trial, f"{at}.orders", list(ORDERS.values())),
        rate=trial.suggest_float(f"{at}.rate", 0.05, 1.0, log=True),
        lead=trial.suggest_float(f"{at}.lead", 0.5, 5.0),
        share_documents=trial.suggest_categorical(f"{at}.share_documents", [False, True]),
    )
