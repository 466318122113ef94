"""Ranges of PPM: contexts so long that counts may be believed before the network."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.ppm import Ppm
from search_spaces.evaluate.memory.token_tilt import ORDERS


def ppm(trial: BaseTrial, at: str) -> Ppm:
    return Ppm(
        orders=ORDERS[trial.suggest_categorical(f"{at}.orders", list(ORDERS))],
        method=trial.suggest_categorical(f"{at}.method", ["c", "d"]),
        share_documents=trial.suggest_categorical(f"{at}.share_documents", [False, True]),
    )
