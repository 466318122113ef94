"""Ranges of AdamW for the table and the control vectors."""

from optuna.trial import BaseTrial

from pgolf.optim.adam import Adam


def adam(trial: BaseTrial, at: str) -> Adam:
    return Adam(
        embedding_lr=trial.suggest_float(f"{at}.embedding_lr", 0.01, 0.2, log=True),
        control_lr=trial.suggest_float(f"{at}.control_lr", 0.005, 0.1, log=True),
        beta2=trial.suggest_float(f"{at}.beta2", 0.9, 0.995),
    )
