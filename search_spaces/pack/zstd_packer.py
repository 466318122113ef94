"""Zstandard at its hardest level; what is open is the layout."""

from optuna.trial import BaseTrial

from pgolf.pack.zstd_packer import ZstdPacker


def zstd_packer(trial: BaseTrial, at: str) -> ZstdPacker:
    return ZstdPacker(transpose=trial.suggest_categorical(f"{at}.transpose", [False, True]))
