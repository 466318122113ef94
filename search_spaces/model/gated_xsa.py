"""Gated XSA: on the last how many layers, and where its gates begin."""

from optuna.trial import BaseTrial

from pgolf.model.gated_xsa import GatedXsa


def gated_xsa(trial: BaseTrial, at: str, layers: int) -> GatedXsa:
    return GatedXsa(
        last_layers=trial.suggest_int(f"{at}.last_layers", 1, layers),
        begin_excluded=trial.suggest_categorical(f"{at}.begin_excluded", [False, True]),
    )
