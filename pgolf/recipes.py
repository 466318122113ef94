"""Named starting points. A recipe is a function; variants derive from another and change a few lines.

The records of the competition are in pgolf.records; the laptop recipes play the same game with everything
scaled down, under the `laptop` profile.
"""

from collections.abc import Callable

from pgolf.certify.perturb import Probe
from pgolf.certify.stage import Certify
from pgolf.data.source import PythonStdlib
from pgolf.errors import ConfigError, nearest
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.memory.context_mixing import ContextMixing
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.model.attention import Attention
from pgolf.model.gpt import GptConfig
from pgolf.model.mlp import Mlp
from pgolf.model.rope import Rope
from pgolf.optim.adam import Adam
from pgolf.optim.ema import Ema
from pgolf.optim.muon import Muon
from pgolf.optim.optimizer import Optim
from pgolf.optim.schedule import Schedule
from pgolf.pack.ans_packer import AnsPacker
from pgolf.quantize.binary import Binary
from pgolf.quantize.calibrate import Calibrate, Fisher
from pgolf.quantize.forms import TwoSided
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.rate_distortion import RateDistortion
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.ternary import Ternary
from pgolf.records import RECORDS, naive_baseline
from pgolf.rules import LAPTOP
from pgolf.run import RunConfig
from pgolf.train.budget import Steps
from pgolf.train.grouped_qat import Binary as BinaryTraining
from pgolf.train.grouped_qat import Ternary as TernaryTraining
from pgolf.train.late_qat import StraightThrough
from pgolf.train.loop import Train


def laptop_baseline() -> RunConfig:
    """The naive baseline in miniature: the same choices, a width and a length for two cores."""
    return naive_baseline().but(
        name="laptop_baseline",
        data=PythonStdlib(),
        model=GptConfig(layers=4, width=96, attention=Attention(heads=4, kv_heads=2), rope=Rope(dims=24)),
        optim=Optim(),
        train=Train(budget=Steps(steps=100), batch_tokens=2048, context=256, rows_at_once=16),
        evaluate=Sliding(context=256, stride=128),
        rules=LAPTOP,
    )


def laptop_late() -> RunConfig:
    """The late record stacks' choices where they hold in a short run: leaky relu^2 at mult 3, row-normalized
    Muon with decay, an averaged long warmdown with a floor, GPTQ on SDClip grids at 6 bits; with the smaller
    batch and momentum that two hundred steps want."""
    base = laptop_baseline()
    return base.but(
        name="laptop_late",
        model=base.model.but(
            mlp=Mlp(mult=3.0, negative_slope=0.5), attention=Attention(heads=4, kv_heads=2, qk_gain=3.0)
        ),
        optim=Optim(
            muon=Muon(lr=0.03, momentum=0.85, row_normalize=True, weight_decay=0.05),
            adam=Adam(embedding_lr=0.03, control_lr=0.02),
            schedule=Schedule(warmdown_fraction=0.75, min_lr=0.05),
            ema=Ema(window_fraction=0.06),
        ),
        train=base.train.but(batch_tokens=1024, budget=Steps(steps=200)),
        quantize=Gptq(grids=RoleGrids(embedding=SdClip(bits=7, clip_sigmas=14.0))),
        calibrate=Calibrate(tokens=16_384, context=256),
    )


def laptop_solved() -> RunConfig:
    """Wider than `laptop_late` by a third, in all the bytes there are: the quantizer is given the cap and solves
    for the best weights under it; nothing of it is tuned."""
    base = laptop_late()
    return base.but(
        name="laptop_solved",
        model=base.model.but(
            width=128, attention=Attention(heads=4, kv_heads=2, qk_gain=3.0), rope=Rope(dims=32)
        ),
        calibrate=Calibrate(tokens=16_384, context=256, fisher=Fisher(tokens=16_384, full=True)),
        quantize=RateDistortion(form=TwoSided()),
        pack=AnsPacker(),
    )


def laptop_adapted() -> RunConfig:
    """`laptop_solved` that learns the documents it is scored on, after their scores: adapters of each document, and
    counts of what it said so far, mixed with the network by weights that are learned too."""
    ttt = DocumentLora(rank=8, alpha=16.0, lr=3e-3)
    return laptop_solved().but(
        name="laptop_adapted",
        evaluate=DocumentChunks(context=256, chunk=64, ttt=ttt, memory=ContextMixing()),
    )


def laptop_qat() -> RunConfig:
    """`laptop_late` with the end of its training on the grid that it is deployed on: the last 15 % of the run
    with the very steps and codes that GPTQ rounds to."""
    base = laptop_late()
    grid = SdClip()
    late = StraightThrough(bits=grid.bits, clip_sigmas=grid.clip_sigmas, from_fraction=0.85)
    return base.but(name="laptop_qat", train=base.train.but(late_qat=late))


def laptop_ternary() -> RunConfig:
    """A third wider than `laptop_late`, in the same bytes: matrices are ternary from the first step on, without
    averaging and decay, at the query gain that PR 640 found for such weights. What is rounded after training is
    the tied table alone, to 8 bits: 7 cost 0.007 bits per byte, without a Hessian."""
    base = laptop_late()
    return base.but(
        name="laptop_ternary",
        model=base.model.but(
            width=128, attention=Attention(heads=4, kv_heads=2, qk_gain=2.25), rope=Rope(dims=32)
        ),
        optim=base.optim.but(muon=base.optim.muon.but(weight_decay=0.0), ema=None),
        train=base.train.but(late_qat=TernaryTraining()),
        quantize=Ternary(embedding=SdClip(bits=8, clip_sigmas=14.0)),
        calibrate=None,
    )


def laptop_binary() -> RunConfig:
    """`laptop_ternary` with signs alone."""
    base = laptop_ternary()
    return base.but(
        name="laptop_binary",
        train=base.train.but(late_qat=BinaryTraining()),
        quantize=Binary(embedding=SdClip(bits=8, clip_sigmas=14.0)),
    )


def tiny() -> RunConfig:
    """A trial of seconds, for trying commands out and for tests; its scores mean nothing."""
    base = laptop_late()
    return base.but(
        name="tiny",
        model=base.model.but(layers=2, width=32, attention=Attention(heads=2, kv_heads=1), rope=Rope(dims=8)),
        train=base.train.but(budget=Steps(steps=12), batch_tokens=1024, context=64),
        calibrate=Calibrate(tokens=4096, context=64),
        evaluate=Sliding(context=64, stride=64),
        certify=Certify(sample_bytes=256, probe=Probe(tokens=48, places=8, draws=1, sums=200, tried=100)),
    )


RECIPES: dict[str, Callable[[], RunConfig]] = {
    f.__name__: f
    for f in (
        *RECORDS,
        laptop_baseline,
        laptop_late,
        laptop_solved,
        laptop_adapted,
        laptop_qat,
        laptop_ternary,
        laptop_binary,
        tiny,
    )
}


def recipe(name: str) -> RunConfig:
    """A recipe by name. Raises ConfigError naming the nearest."""
    if name not in RECIPES:
        raise ConfigError(
            "a config is a file that can be read, or a recipe's name", name, nearest(name, RECIPES)
        )
    return RECIPES[name]()
