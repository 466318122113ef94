"""The competition's own game: 16 MB, 600 s of training and 600 s of evaluation on 8xH100.

Wants the published CaseOps shards and their tokenizer under /data/fineweb on every node (`pgolf data fetch
sp8192_caseops`). It begins from the newest merged record and the two before it, and opens everything they
decided, with what they added to the baseline and what never was tried at full scale. Not asked, since the
packed rows settle it: the loader and RoPE scaling; nor warm-up, which decides nothing. Their spaces
(`search_spaces.data.loader`, `.model.rope_scaling`, `.train.warmup`) are there for rounds of one's own. The
budget is wall-clock, so a reproduction agrees in bpb only to the noise of the run.
"""

from optuna.trial import BaseTrial

from pgolf.records import fineweb, pr1736, pr1787, pr1855
from pgolf.run import RunConfig
from pgolf.train.budget import Seconds
from search_spaces.evaluate.evaluation import evaluation
from search_spaces.model.gpt import gpt
from search_spaces.optim.optimizer import optim
from search_spaces.pack.packer import packer
from search_spaces.quantize.quantizer import quantizer
from search_spaces.round import Gate, Round
from search_spaces.train.late_qat import late_qat
from search_spaces.train.objective import objective
from search_spaces.train.progressive_context import progressive_context
from search_spaces.warm import params_of

DATA = fineweb("sp8192_caseops", 8192, root="/data/fineweb")
BATCHES = [196_608, 393_216, 786_432, 1_572_864]  # tokens: whole packed rows on eight ranks
LONG = 3072  # the context that may grow over the run


def space(trial: BaseTrial) -> RunConfig:
    base = pr1855()
    model = gpt(trial, "model", layers=(8, 13), width=(448, 640, 64), heads=8, vocab_size=8192, switches=True)
    context = trial.suggest_categorical("train.context", [2048, LONG])
    batch = trial.suggest_categorical("train.batch_tokens", BATCHES)
    reserve = trial.suggest_float("train.budget.reserve_seconds", 0.5, 13.0)
    quantize, calibrate = quantizer(
        trial, "quantize", context, gated=model.attention.gate is not None, switches=True
    )
    return base.but(
        name="parameter_golf",
        data=DATA,
        model=model,
        optim=optim(trial, "optim", switches=True),
        train=base.train.but(
            context=context,
            progressive_context=progressive_context(trial, "train.progressive_context", LONG)
            if context == LONG
            else None,
            batch_tokens=batch,
            objective=objective(trial, "train.objective"),
            late_qat=late_qat(trial, "train.late_qat"),
            loader=base.train.loader.but(tokens_per_row=min(batch // base.rules.gang.ranks, 98_304)),
            budget=Seconds(seconds=base.rules.train_seconds, reserve_seconds=reserve),
        ),
        quantize=quantize,
        calibrate=calibrate,
        pack=packer(trial, "pack"),
        evaluate=evaluation(
            trial,
            "evaluate",
            2048,
            documents=50_000,
            executions=len(model.order()),
            stored=len(set(model.uses())),
            finest=32,
        ),
    )


ROUND = Round(
    name="parameter_golf",
    space=space,
    rules=pr1855().rules,
    trials=60,
    max_concurrent=4,
    warm_starts={r.name: params_of(space, r.but(data=DATA)) for r in (pr1855(), pr1787(), pr1736())},
    gate=Gate(at_fraction=0.2, tolerance=1.05),
)
