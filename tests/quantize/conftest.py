"""A small network trained for long enough that what quantizers are guided by holds of it. Half a minute, once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.conftest import TinyTrial, alone

if TYPE_CHECKING:
    from pgolf.formats.checkpoint import Checkpoint
    from pgolf.formats.quantized import Matrix, QuantizedModel
    from pgolf.model.gpt import Gpt
    from pgolf.quantize.problem import Problem
    from pgolf.quantize.statistics import Statistics

CONTEXT, SEQUENCES = 128, 64


@dataclass(frozen=True)
class Trained:
    """112,000 weights on three executions of two stored matrices and more, 300,000 tokens; and text held out."""

    checkpoint: "Checkpoint"
    network: "Gpt"
    statistics: "Statistics"  # with whole output covariances
    text: torch.Tensor
    log_probabilities: torch.Tensor

    @property
    def candidates(self) -> dict[str, torch.Tensor]:
        return {n: w for n, w in self.checkpoint.weights.items() if self.network.roles[n].is_matrix}

    def built(self, matrices: "Mapping[str, Matrix]") -> "QuantizedModel":
        """The deployed form; of no matrices, what everything else costs."""
        from pgolf.formats.quantized import QuantizedModel

        left = matrices or self.candidates
        rest = {n: w.half() for n, w in self.checkpoint.weights.items() if n not in left}
        roles = {n: self.network.roles[n].value for n in matrices}
        return QuantizedModel(self.checkpoint.model, self.checkpoint.vocab_size, matrices, roles, rest)

    def bytes_of(self, matrices: "Mapping[str, Matrix]") -> int:
        from pgolf.pack.ans_packer import AnsPacker
        from pgolf.pack.stage import packed_bytes

        return packed_bytes(self.built(matrices), AnsPacker())

    def problem(self, bits: float) -> "Problem":
        """With as many bytes as so many bits a weight are."""
        from pgolf.quantize.problem import Problem

        count = sum(w.numel() for w in self.candidates.values())
        target = self.bytes_of({}) + int(bits * count / 8)
        return Problem(self.candidates, self.network.roles, self.statistics, self.bytes_of, target)

    def kl(self, matrices: "Mapping[str, Matrix]") -> float:
        """Nats a token between the float network's predictions and the deployed one's."""
        deployed = _predictions(self.network, self.built(matrices).weights(), self.text)
        self.network.load_state_dict(self.checkpoint.weights)
        return float((self.log_probabilities.exp() * (self.log_probabilities - deployed)).sum(-1).mean())

    def predicted(self, matrices: "Mapping[str, Matrix]") -> float:
        """What the statistics say that rounding costs."""
        from pgolf.quantize.statistics import predicted_loss

        errors = {n: m.dequantize() - self.checkpoint.weights[n] for n, m in matrices.items()}
        losses = [predicted_loss(n, e, self.statistics) for n, e in errors.items()]
        return sum(loss for loss in losses if loss is not None)


@pytest.fixture(scope="session")
def trained(tiny_trial: TinyTrial, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained once however many test processes there are."""
    from pgolf.data.source import PythonStdlib
    from pgolf.formats.checkpoint import Checkpoint
    from pgolf.formats.shards import read_split
    from pgolf.model.attention import Attention
    from pgolf.model.gpt import assemble
    from pgolf.model.recurrence import Recurrence
    from pgolf.model.rope import Rope
    from pgolf.optim.ema import Ema
    from pgolf.optim.schedule import Schedule
    from pgolf.quantize.calibrate import CALIBRATE, Calibrate, Fisher
    from pgolf.quantize.statistics import Statistics
    from pgolf.recipes import laptop_late
    from pgolf.runtime import Runtime
    from pgolf.stage import Artifact, Store
    from pgolf.train.budget import Steps
    from pgolf.train.stage import train_stage

    base, runtime = laptop_late(), Runtime()
    model = base.model.but(
        layers=3, width=48, attention=Attention(heads=2, kv_heads=1, qk_gain=3.0), rope=Rope(dims=8),
        recurrence=Recurrence(first=1, last=1, passes=2, from_fraction=0.3),
    )  # fmt: skip
    optim = base.optim.but(
        muon=base.optim.muon.but(lr=0.02, momentum=0.9), schedule=Schedule(warmdown_fraction=0.6, min_lr=0.05),
        ema=Ema(window_fraction=0.02),
    )  # fmt: skip
    train = base.train.but(batch_tokens=1024, context=CONTEXT, budget=Steps(steps=300))
    section = Calibrate(tokens=32_768, context=CONTEXT, fisher=Fisher(tokens=16_384, full=True))
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    assert isinstance(tiny_trial.config.data, PythonStdlib)
    tokens, store = Artifact.of(tiny_trial.stage("tokenize")), Store(shared / "trained-store")
    with alone(shared / "trained-store.lock"):
        stage = train_stage(tiny_trial.config.data.tokenizer.vocab_size, lambda _, __: 0.0)
        made = stage(store, tokens, runtime=runtime, seed=42, model=model, optim=optim, train=train)
        known = CALIBRATE(store, made, tokens, runtime=runtime, seed=42, calibrate=section)
    checkpoint = Checkpoint.read(made.path)
    network = assemble(checkpoint.model, checkpoint.vocab_size, checkpoint.weights, "cpu")
    ids = read_split(tokens.path, "select")[0][: SEQUENCES * CONTEXT].astype(np.int64)
    text = torch.from_numpy(ids).view(SEQUENCES, CONTEXT)
    reference = _predictions(network, checkpoint.weights, text)
    return Trained(checkpoint, network, Statistics.read(known.path), text, reference)


def _predictions(network: "Gpt", weights: Mapping[str, torch.Tensor], text: torch.Tensor) -> torch.Tensor:
    from pgolf.formats.shards import BOS

    network.load_state_dict(weights)
    with torch.inference_mode():
        return torch.cat([network(rows, rows == BOS).log_softmax(-1) for rows in text.split(16)])
