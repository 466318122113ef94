"""Ranges of RoPE: from 8 rotated dimensions to the whole head."""

from optuna.trial import BaseTrial

from pgolf.model.rope import Rope


def rope(trial: BaseTrial, at: str, head_dim: int) -> Rope:
    return Rope(dims=trial.suggest_int(f"{at}.dims", 8, head_dim, step=8) if head_dim > 8 else head_dim)
