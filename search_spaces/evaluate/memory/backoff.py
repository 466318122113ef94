"""Ranges of interpolated backoff: what shorter contexts count for."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.backoff import Backoff
from search_spaces.evaluate.memory.token_tilt import ORDERS
from search_spaces.evaluate.memory.trust import trust
from search_spaces.listed import listed


def backoff(trial: BaseTrial, at: str) -> Backoff:
    return Backoff(
        orders=listed(trial, f"{at}.orders", list(ORDERS.values())),
        alpha=trial.suggest_float(f"{at}.alpha", 1.0, 100.0, log=True),
        discount=trial.suggest_float(f"{at}.discount", 0.0, 0.9),
        share_documents=trial.suggest_categorical(f"{at}.share_documents", [False, True]),
        gate=trust(trial, f"{at}.gate"),
    )
