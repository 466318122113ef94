"""Which packer. Those kept to compare with are behind on every kind of weights: a round asks for them by name."""

from collections.abc import Callable

from optuna.trial import BaseTrial

from pgolf.pack.stage import Packer
from search_spaces.pack.ans_packer import ans_packer
from search_spaces.pack.brotli_packer import brotli_packer
from search_spaces.pack.lzma_packer import lzma_packer
from search_spaces.pack.zpaq_packer import zpaq_packer
from search_spaces.pack.zstd_packer import zstd_packer

SPACES: dict[str, Callable[[BaseTrial, str], Packer]] = {
    "ans": ans_packer,
    "brotli": brotli_packer,
    "lzma": lzma_packer,
    "zpaq": zpaq_packer,
    "zstd": zstd_packer,
}


def packer(trial: BaseTrial, at: str, kinds: tuple[str, ...] = ("ans", "brotli")) -> Packer:
    return SPACES[trial.suggest_categorical(f"{at}.kind", kinds)](trial, at)
