"""ZPAQ; what is open is the layout."""

from optuna.trial import BaseTrial

from pgolf.pack.zpaq_packer import ZpaqPacker


def zpaq_packer(trial: BaseTrial, at: str) -> ZpaqPacker:
    return ZpaqPacker(transpose=trial.suggest_categorical(f"{at}.transpose", [False, True]))
