"""Ranges of PPM: contexts so long that counts may be believed before the network."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.ppm import Ppm
from search_spaces.evaluate.memory.token_tilt import ORDERS
from search_spaces.evaluate.memory.trust import trust
from search_spaces.listed import listed


def ppm(trial: BaseTrial, at: str) -> Ppm:
    return Ppm(
        orders=listed(trial, f"{at}.orders", list(ORDERS.values())),
        method=trial.suggest_categorical(f"{at}.method", ["c", "d"]),
        share_documents=trial.suggest_categorical(f"{at}.share_documents", [False, True]),
        gate=trust(trial, f"{at}.gate"),
    )
