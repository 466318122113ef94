"""pgolf's training loop against a minimal plain-PyTorch loop of the same network (benchmarks/plain.py).

Both train the same network from the same weights on the same batches; the benchmark refuses to compare speeds
if they do not arrive at the same loss. Two sizes: at the first one rank's arithmetic dominates, the second is
the laptop search's, where every Python call shows. The least time of several runs, taken in turns.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.plain import PlainGpt, take_weights, train_plain
from pgolf.data.loader import Windows
from pgolf.formats.shards import BOS, shard_name, write_shard
from pgolf.model.attention import Attention
from pgolf.model.rope import Rope
from pgolf.optim.muon import Muon
from pgolf.optim.optimizer import Optim
from pgolf.optim.schedule import Schedule
from pgolf.recipes import laptop_late
from pgolf.run import RunConfig
from pgolf.runtime import Runtime
from pgolf.train.budget import Steps
from pgolf.train.loop import train

VOCAB, SEED, RUNS = 1024, 0, 3


def sizes() -> dict[str, RunConfig]:
    """Constant rates, no averaging, clipping or decay: what the plain script has."""
    base = laptop_late()
    plain = base.but(
        optim=Optim(
            muon=Muon(momentum=0.95, momentum_start=0.95, momentum_warmup_fraction=0.0),
            adam=base.optim.adam,
            schedule=Schedule(warmdown_fraction=0.0),
        ),
        train=base.train.but(budget=Steps(steps=24)),
    )
    wide = plain.but(
        model=plain.model.but(
            layers=6, width=256, attention=Attention(heads=8, kv_heads=4, qk_gain=3.0), rope=Rope(dims=16)
        ),
        train=plain.train.but(budget=Steps(steps=6), batch_tokens=4096),
    )
    return {"wide": wide, "laptop": plain}


def training_step() -> dict[str, float]:
    """Plain seconds over ours: above one, ours is faster."""
    rows: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as work:
        tokens = np.random.default_rng(SEED).integers(2, VOCAB, size=200_000).astype(np.uint16)
        tokens[::700] = BOS
        write_shard(Path(work) / shard_name("train"), tokens)
        for name, config in sizes().items():
            ours, plain = [], []
            for _ in range(RUNS):
                seconds, loss = _ours(config, Path(work))
                reference_seconds, reference = _plain(config, Path(work))
                if abs(loss - reference) > 1e-3 * reference:
                    raise AssertionError(f"not the same training: {loss} and {reference} nats")
                ours.append(seconds)
                plain.append(reference_seconds)
            rows[f"{name}_plain_over_ours"] = min(plain) / min(ours)
    return rows


def _ours(config: RunConfig, tokens: Path) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as out:
        made = train(
            tokens, out=Path(out), runtime=Runtime(), seed=SEED, model=config.model, optim=config.optim,
            train=config.train, vocab_size=VOCAB, probe=lambda _: 0.0, probes=(),
        )  # fmt: skip
    return made["train_seconds"], made["final_train_loss"]


def _plain(config: RunConfig, tokens: Path) -> tuple[float, float]:
    network = PlainGpt(config, VOCAB)
    take_weights(network, config.model.build(VOCAB).reset(SEED).state_dict())
    assert isinstance(config.train.budget, Steps)
    batches = iter(Windows(tokens, config.train.context, config.train.rows, SEED))
    torch.manual_seed(SEED)
    began = time.perf_counter()
    losses = train_plain(network, config, batches, config.train.budget.steps)
    return time.perf_counter() - began, losses[-1]
