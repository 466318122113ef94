"""Ranges of label smoothing, or none."""

from optuna.trial import BaseTrial

from pgolf.train.label_smoothing import LabelSmoothing


def label_smoothing(trial: BaseTrial, at: str) -> LabelSmoothing | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return LabelSmoothing(epsilon=trial.suggest_float(f"{at}.epsilon", 0.005, 0.1, log=True))
