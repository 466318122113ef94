"""LZMA at its extreme preset; what is open is the layout."""

from optuna.trial import BaseTrial

from pgolf.pack.lzma_packer import LzmaPacker


def lzma_packer(trial: BaseTrial, at: str) -> LzmaPacker:
    return LzmaPacker(transpose=trial.suggest_categorical(f"{at}.transpose", [False, True]))
