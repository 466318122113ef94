"""A search of seconds: every part of a real one, on networks too small to learn anything.

For trying an installation or a cluster out, and for tests. Its scores mean nothing.
"""

from optuna.trial import BaseTrial

from pgolf.recipes import tiny
from pgolf.rules import LAPTOP
from pgolf.run import RunConfig
from search_spaces.model.gpt import gpt
from search_spaces.optim.muon import muon
from search_spaces.quantize.quantizer import quantizer
from search_spaces.round import Gate, Round
from search_spaces.warm import params_of

RULES = LAPTOP.but(name="smoke", artifact_bytes=76_000)


def space(trial: BaseTrial) -> RunConfig:
    base = tiny().but(rules=RULES)
    quantize, calibrate = quantizer(trial, "quantize", base.train.context)
    return base.but(
        name="smoke",
        model=gpt(trial, "model", layers=(1, 3), width=(16, 48, 16), heads=2),
        optim=base.optim.but(muon=muon(trial, "optim.muon")),
        quantize=quantize,
        calibrate=calibrate,
    )


ROUND = Round(
    name="smoke",
    space=space,
    rules=RULES,
    trials=6,
    max_concurrent=2,
    warm_starts={"tiny": params_of(space, tiny().but(rules=RULES))},
    gate=Gate(at_fraction=0.5, tolerance=1.05),
    startup_trials=4,
    finalists=2,
)
