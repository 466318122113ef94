"""The competition's own game: 16 MB, 600 s of training and 600 s of evaluation on 8xH100.

Wants the published FineWeb shards and their tokenizer under /data/fineweb on every node. The budget is
wall-clock, so a reproduction agrees in bpb only to the noise of the run.
"""

from optuna.trial import BaseTrial

from pgolf.data.source import Shards
from pgolf.recipes import naive_baseline
from pgolf.run import RunConfig
from pgolf.train.budget import Seconds
from search_spaces.evaluate.windows import windows
from search_spaces.model.gpt import gpt
from search_spaces.optim.optimizer import optim
from search_spaces.pack.packer import packer
from search_spaces.quantize.quantizer import quantizer
from search_spaces.round import Gate, Round
from search_spaces.warm import params_of

DATA = Shards(
    train="/data/fineweb/fineweb_train_*.bin",
    validation="/data/fineweb/fineweb_val_*.bin",
    tokenizer="/data/fineweb/fineweb_1024_bpe.model",
)


def space(trial: BaseTrial) -> RunConfig:
    base = naive_baseline()
    context = base.train.context
    quantize, calibrate = quantizer(trial, "quantize", context)
    return base.but(
        name="parameter_golf",
        data=DATA,
        model=gpt(trial, "model", layers=(8, 13), width=(512, 512, 64), heads=8),
        optim=optim(trial, "optim"),
        train=base.train.but(
            batch_tokens=trial.suggest_categorical("train.batch_tokens", [262_144, 524_288, 786_432]),
            budget=Seconds(seconds=base.rules.train_seconds, reserve_seconds=8.0 if calibrate else 0.5),
        ),
        quantize=quantize,
        calibrate=calibrate,
        pack=packer(trial, "pack"),
        evaluate=windows(trial, "evaluate", context),
    )


ROUND = Round(
    name="parameter_golf",
    space=space,
    rules=naive_baseline().rules,
    trials=60,
    max_concurrent=4,
    warm_starts={"naive_baseline": params_of(space, naive_baseline().but(data=DATA))},
    gate=Gate(at_fraction=0.2, tolerance=1.05),
)
