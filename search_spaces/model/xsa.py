"""XSA: on the last how many layers."""

from optuna.trial import BaseTrial

from pgolf.model.xsa import Xsa


def xsa(trial: BaseTrial, at: str, layers: int) -> Xsa:
    """From the last layer alone to all of them (3 and 4 in the first records with it, then all)."""
    return Xsa(last_layers=trial.suggest_int(f"{at}.last_layers", 1, layers))
