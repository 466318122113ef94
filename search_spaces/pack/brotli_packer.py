"""Brotli at full quality; what is open is the layout."""

from optuna.trial import BaseTrial

from pgolf.pack.brotli_packer import BrotliPacker


def brotli_packer(trial: BaseTrial, at: str) -> BrotliPacker:
    return BrotliPacker(transpose=trial.suggest_categorical(f"{at}.transpose", [False, True]))
