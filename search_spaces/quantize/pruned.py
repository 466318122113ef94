"""Ranges of pruning, around any base: a share of the smallest weights beforehand; its target is the rules' cap."""

from optuna.trial import BaseTrial

from pgolf.quantize.base import Plain
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.lqer import Lqer
from pgolf.quantize.pruned import Pruned


def pruned(trial: BaseTrial, at: str, base: Plain | Lqer | None = None) -> Pruned:
    share = trial.suggest_categorical(f"{at}.magnitude", [None, 0.01, 0.03, 0.05])
    return Pruned(base=Gptq() if base is None else base, magnitude=share)
