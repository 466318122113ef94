"""Ranges of NorMuon's second moment, or none."""

from optuna.trial import BaseTrial

from pgolf.optim.nor_muon import NorMuon


def nor_muon(trial: BaseTrial, at: str) -> NorMuon | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return NorMuon(beta2=trial.suggest_float(f"{at}.beta2", 0.9, 0.99))
