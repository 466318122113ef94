"""Ranges of AdamW for tables and control vectors; for training-only heads where the round has them."""

from optuna.trial import BaseTrial

from pgolf.optim.adam import Adam


def adam(trial: BaseTrial, at: str, heads: bool = False, switches: bool = False) -> Adam:
    """`switches` opens the decays, which act over thousands of steps."""
    made = Adam(
        embedding_lr=trial.suggest_float(f"{at}.embedding_lr", 0.01, 0.2, log=True),
        control_lr=trial.suggest_float(f"{at}.control_lr", 0.005, 0.1, log=True),
        head_lr=trial.suggest_float(f"{at}.head_lr", 0.001, 0.05, log=True) if heads else None,
        beta2=trial.suggest_float(f"{at}.beta2", 0.9, 0.995),
    )
    if not switches:
        return made
    return made.but(
        embedding_weight_decay=trial.suggest_float(f"{at}.embedding_weight_decay", 0.0, 0.15),
        control_weight_decay=trial.suggest_float(f"{at}.control_weight_decay", 0.0, 0.05),
    )
