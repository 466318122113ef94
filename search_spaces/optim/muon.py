"""Ranges of Muon. Short runs of small batches want larger rates than the record stacks' 0.02-0.03."""

from optuna.trial import BaseTrial

from pgolf.optim.muon import Muon


def muon(trial: BaseTrial, at: str) -> Muon:
    return Muon(
        lr=trial.suggest_float(f"{at}.lr", 0.01, 0.16, log=True),
        momentum=trial.suggest_float(f"{at}.momentum", 0.8, 0.99),
        row_normalize=trial.suggest_categorical(f"{at}.row_normalize", [False, True]),
        weight_decay=trial.suggest_float(f"{at}.weight_decay", 0.0, 0.15),
    )
