"""Asymmetric softcap: none, two caps, or two gains after the cap."""

from optuna.trial import BaseTrial

from pgolf.model.asymmetric_softcap import AsymmetricSoftcap


def asymmetric_softcap(trial: BaseTrial, at: str) -> AsymmetricSoftcap | None:
    if not trial.suggest_categorical(f"{at}.on", [False, True]):
        return None
    return AsymmetricSoftcap(form=trial.suggest_categorical(f"{at}.form", ["cap", "gain"]))
