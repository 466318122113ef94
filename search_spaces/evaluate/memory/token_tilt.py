"""Ranges of tilting: sets of context lengths from the short to the records' 16, and the gate."""

from optuna.trial import BaseTrial

from pgolf.evaluate.memory.token_tilt import TokenTilt
from search_spaces.evaluate.memory.gate import gate
from search_spaces.listed import listed

ORDERS = {  # of every memory that has some: an arm's parameter of one name has one range in all arms
    "records": (16,), "long": (8, 10, 12, 14, 16), "mixed": (3, 4, 6, 8, 16), "middle": (3, 4, 6),
    "short": (1, 2, 3, 4), "mixing": (2, 3, 4, 6),
}  # fmt: skip


def token_tilt(trial: BaseTrial, at: str) -> TokenTilt:
    return TokenTilt(
        orders=listed(trial, f"{at}.orders", list(ORDERS.values())),
        min_count=trial.suggest_int(f"{at}.min_count", 1, 4),
        threshold=trial.suggest_float(f"{at}.threshold", 0.0, 0.9),
        hints=trial.suggest_int(f"{at}.hints", 1, 2),
        gate=gate(trial, f"{at}.gate"),
        share_documents=trial.suggest_categorical(f"{at}.share_documents", [False, True]),
    )
