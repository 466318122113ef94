"""The embedded default: a joint search in miniature, minutes on two cores.

Every candidate trains on the same number of tokens of the embedded corpus and has to fit the laptop
profile's byte cap. The warm starts are the naive baseline and the late stacks' choices, both scaled
down, a wider network whose quantizer solves for the cap, and the same with what adapts to documents and remembers
them; everything between and around them is open.
"""

from optuna.trial import BaseTrial

from pgolf.data.source import PythonStdlib
from pgolf.recipes import laptop_adapted, laptop_baseline, laptop_late, laptop_solved
from pgolf.run import RunConfig
from search_spaces.data.tokenizer import tokenizer
from search_spaces.evaluate.evaluation import evaluation
from search_spaces.model.gpt import gpt
from search_spaces.optim.optimizer import optim
from search_spaces.pack.packer import packer
from search_spaces.quantize.quantizer import quantizer
from search_spaces.round import Gate, Round
from search_spaces.train.budget import budget
from search_spaces.warm import params_of

TRAIN_TOKENS = 204_800
DOCUMENTS = 11  # of the select split
RECIPES = (laptop_baseline(), laptop_late(), laptop_solved(), laptop_adapted())


def space(trial: BaseTrial) -> RunConfig:
    base = laptop_baseline()
    context = base.train.context
    quantize, calibrate = quantizer(trial, "quantize", context)
    model = gpt(trial, "model", layers=(2, 6), width=(64, 128, 32), heads=4)
    return base.but(
        name="laptop",
        data=PythonStdlib(tokenizer=tokenizer(trial, "data.tokenizer", (512, 1024, 2048))),
        model=model,
        optim=optim(trial, "optim"),
        train=budget(trial, "train", base.train, tokens=TRAIN_TOKENS, batches=(512, 1024, 2048, 4096)),
        quantize=quantize,
        calibrate=calibrate,
        pack=packer(trial, "pack"),
        evaluate=evaluation(
            trial,
            "evaluate",
            context,
            documents=DOCUMENTS,
            executions=len(model.order()),
            stored=len(set(model.uses())),
        ),
    )


ROUND = Round(
    name="laptop",
    space=space,
    rules=laptop_baseline().rules,
    trials=14,
    max_concurrent=2,
    warm_starts={r.name: params_of(space, r) for r in RECIPES},
    gate=Gate(at_fraction=0.5, tolerance=1.1),
    startup_trials=8,
    seed=0,
)
