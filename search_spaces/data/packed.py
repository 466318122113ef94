"""Packed rows: how long one is, from the caller's choices. Longer rows cut fewer documents."""

from collections.abc import Sequence

from optuna.trial import BaseTrial

from pgolf.data.packed import Packed


def packed(trial: BaseTrial, at: str, rows_of: Sequence[int]) -> Packed:
    """`rows_of`: lengths of a row in tokens, each a divisor of every batch on offer."""
    return Packed(tokens_per_row=trial.suggest_categorical(f"{at}.tokens_per_row", list(rows_of)))
