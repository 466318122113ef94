"""Which packer."""

from optuna.trial import BaseTrial

from pgolf.pack.stage import Packer
from search_spaces.pack.brotli_packer import brotli_packer
from search_spaces.pack.lzma_packer import lzma_packer


def packer(trial: BaseTrial, at: str) -> Packer:
    if trial.suggest_categorical(f"{at}.kind", ["brotli", "lzma"]) == "brotli":
        return brotli_packer(trial, at)
    return lzma_packer(trial, at)
