"""Ranges of Muon. Short runs of small batches want larger rates than the record stacks' 0.02-0.03.

`switches` adds what only a full-length run can judge or what has a low prior: the momentum's warmup, the
number of steps and the form of the orthogonalization, changes to the gradient and the update that no record
has, the taper of the decay, bfloat16 momentum.
"""

from optuna.trial import BaseTrial

from pgolf.optim.muon import Muon
from search_spaces.optim.centralize import centralize
from search_spaces.optim.decay_taper import decay_taper
from search_spaces.optim.gradient_power import gradient_power
from search_spaces.optim.nor_muon import nor_muon
from search_spaces.optim.orthogonalizer import orthogonalizer


def muon(trial: BaseTrial, at: str, switches: bool = False) -> Muon:
    made = Muon(
        lr=trial.suggest_float(f"{at}.lr", 0.01, 0.16, log=True),
        momentum=trial.suggest_float(f"{at}.momentum", 0.8, 0.99),
        row_normalize=trial.suggest_categorical(f"{at}.row_normalize", [False, True]),
        weight_decay=trial.suggest_float(f"{at}.weight_decay", 0.0, 0.15),
    )
    if not switches:
        return made
    return made.but(
        momentum_start=trial.suggest_float(f"{at}.momentum_start", 0.8, 0.95),
        momentum_warmup_fraction=trial.suggest_float(f"{at}.momentum_warmup_fraction", 0.0, 0.5),
        newton_schulz_steps=trial.suggest_int(f"{at}.newton_schulz_steps", 3, 5),
        orthogonalizer=orthogonalizer(trial, f"{at}.orthogonalizer"),
        nor_muon=nor_muon(trial, f"{at}.nor_muon"),
        gradient_power=gradient_power(trial, f"{at}.gradient_power"),
        centralize=centralize(trial, f"{at}.centralize"),
        decay_taper=decay_taper(trial, f"{at}.decay_taper") if made.weight_decay > 0 else None,
        momentum_dtype=trial.suggest_categorical(f"{at}.momentum_dtype", [None, "bfloat16"]),
    )
