"""Ranges of low-rank error correction, around any base. Groups that do not divide a matrix give way to four bits."""

from optuna.trial import BaseTrial

from pgolf.quantize.base import Plain
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.lqer import Asymmetric, Lqer, Symmetric


def lqer(trial: BaseTrial, at: str, base: Plain | None = None) -> Lqer:
    return Lqer(
        base=Gptq() if base is None else base,
        rank=trial.suggest_int(f"{at}.rank", 1, 8),
        top_k=trial.suggest_int(f"{at}.top_k", 1, 8),
        whiten=trial.suggest_categorical(f"{at}.whiten", [True, False]),
        refit=trial.suggest_categorical(f"{at}.refit", [True, False]),
        select=trial.suggest_categorical(f"{at}.select", ["gain", "frobenius"]),
        packing=_packing(trial, f"{at}.packing"),
    )


def _packing(trial: BaseTrial, at: str) -> Asymmetric | Symmetric:
    if trial.suggest_categorical(f"{at}.kind", ["asymmetric", "symmetric"]) == "symmetric":
        return Symmetric(bits=trial.suggest_int(f"{at}.bits", 3, 8))
    return Asymmetric(
        group=trial.suggest_categorical(f"{at}.group", [32, 64, 128]),
        scales=trial.suggest_categorical(f"{at}.scales", ["column", "tensor"]),
        otherwise=Symmetric(),
    )
