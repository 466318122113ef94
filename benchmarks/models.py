"""Trained models that the quantizer and the packer are measured on: real text, real training, minutes on a CPU.

    micro    0.2 M parameters, 24 training tokens per parameter
    looped   0.4 M parameters, the two middle layers executed twice
    wide     3.4 M parameters: few tokens each, but matrices of a size that coders are told apart by

`python -m benchmarks.models micro looped wide --store DIR` trains them; every benchmark finds them in its store.
"""

import argparse
import sys

import torch

from pgolf.data.source import PythonStdlib
from pgolf.data.tokenizer import SpBpe
from pgolf.evaluate.sliding import Sliding
from pgolf.model.attention import Attention
from pgolf.model.gpt import GptConfig
from pgolf.model.mlp import Mlp
from pgolf.model.recurrence import Recurrence
from pgolf.model.rope import Rope
from pgolf.optim.ema import Ema
from pgolf.optim.schedule import Schedule
from pgolf.pipeline import run_trial
from pgolf.recipes import laptop_late
from pgolf.run import RunConfig
from pgolf.runtime import Runtime
from pgolf.stage import Store
from pgolf.train.budget import Steps

STORE = "store"


def _model(name: str, vocab_size: int, model: GptConfig, tokens: int, batch: int, lr: float) -> RunConfig:
    base = laptop_late()
    return base.but(
        name=name,
        data=PythonStdlib(tokenizer=SpBpe(vocab_size=vocab_size)),
        model=model,
        optim=base.optim.but(
            muon=base.optim.muon.but(lr=lr, momentum=0.9),
            schedule=Schedule(warmdown_fraction=0.6, min_lr=0.05),
            ema=Ema(window_fraction=0.02),
        ),
        train=base.train.but(batch_tokens=batch, budget=Steps(steps=tokens // batch)),
        evaluate=Sliding(context=256, stride=256),
        rules=base.rules.but(name="bench", artifact_bytes=16_000_000, train_seconds=3600, eval_seconds=600),
    )


def micro() -> RunConfig:
    """24 tokens a parameter."""
    model = laptop_late().model.but(
        layers=4, width=64, mlp=Mlp(mult=4.0, negative_slope=0.5), rope=Rope(dims=16)
    )
    return _model("micro", 512, model, tokens=5_242_880, batch=2048, lr=0.02)


def looped() -> RunConfig:
    """Depth recurrence: six executions of four stored blocks."""
    model = laptop_late().model.but(
        layers=4,
        width=96,
        mlp=Mlp(mult=3.0, negative_slope=0.5),
        recurrence=Recurrence(first=1, last=2, passes=2, from_fraction=0.35),
    )
    return _model("looped", 1024, model, tokens=4_194_304, batch=2048, lr=0.02)


def wide() -> RunConfig:
    """Matrices of 1024 x 256 and a table of 2048 x 256."""
    model = laptop_late().model.but(
        layers=4,
        width=256,
        attention=Attention(heads=4, kv_heads=2, qk_gain=3.0),
        mlp=Mlp(mult=4.0, negative_slope=0.5),
        rope=Rope(dims=16),
    )
    return _model("wide", 2048, model, tokens=1_572_864, batch=2048, lr=0.02)


MODELS = {f.__name__: f for f in (micro, looped, wide)}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("--store", default=STORE)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in given.models:
        runtime = Runtime()
        with runtime.joined():
            result = run_trial(MODELS[name](), Store(given.store), runtime)
        assert result is not None
        print(f"{name}: {result.params:,} parameters, {result.train_tokens:,} tokens, "
              f"prequant {result.prequant_bpb:.4f}, quantized {result.quantized_bpb:.4f} bits per byte, "
              f"{result.train_seconds:.0f} s", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
