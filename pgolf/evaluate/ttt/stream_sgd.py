"""Full-parameter SGD on the stream: every chunk is scored, then trained on (PR 461, 549, 1413, 1493).

After the windows of a chunk are scored, `epochs` passes over the chunk as disjoint sequences of the context's length:

    v <- momentum v + clip(mean gradient of CE, 1)      w <- w - lr_c v      lr_c = lr (1 + cos(pi c / (C - 1))) / 2

The momentum lives through the stream; the last chunk is not trained on. What is adapted is the dequantized copy,
which never goes back to its grid.
"""

import math
from typing import Literal

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pgolf.data.starts import document_starts
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.predictor import Extent, Holding, Scored
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.section import Section


class StreamSgd(Section):
    kind: Literal["stream_sgd"] = "stream_sgd"
    chunk_tokens: int = Field(32_768, ge=1)  # targets between two trainings
    sequence_tokens: int = Field(2048, ge=1)  # of a training sequence
    rows: int = Field(32, ge=1)  # sequences a step
    epochs: int = Field(3, ge=1)
    lr: float = Field(0.005, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    clip_norm: float = Field(1.0, gt=0)

    def build(self, base: Neural) -> "StreamSgdPredictor":
        return StreamSgdPredictor(self, base)


class StreamSgdPredictor(Holding):
    def __init__(self, section: StreamSgd, base: Neural) -> None:
        super().__init__(base)
        self.section, self.network, self.learns = section, base.network, True
        self.artifact = {name: p.detach().clone() for name, p in self.network.named_parameters()}

    def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
        super().begin(extent, ranks)
        self.ranks, self.chunks, self.done = ranks, max(len(extent.rounds), 1), 0
        self.network.load_state_dict(self.artifact)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=self.section.lr, momentum=self.section.momentum
        )

    def boundaries(self, extent: Extent) -> list[int]:
        return list(range(self.section.chunk_tokens, extent.tokens - 1, self.section.chunk_tokens))

    def learn(self, scored: Scored) -> None:
        s = self.section
        share = self.done / max(self.chunks - 1, 1)
        self.optimizer.param_groups[0]["lr"] = s.lr * 0.5 * (1 + math.cos(math.pi * share))
        sequences = [
            piece[at : at + s.sequence_tokens + 1]
            for piece in scored.pieces
            for at in range(0, len(piece) - 1, s.sequence_tokens)
        ]
        for _ in range(s.epochs):
            for at in range(0, len(sequences), s.rows):
                self._step(sequences[at : at + s.rows])
        self.done += 1

    def _step(self, sequences: list[Int[Tensor, " tokens"]]) -> None:
        self.optimizer.zero_grad()
        targets = sum(len(sequence) - 1 for sequence in sequences)
        for sequence in sequences[self.ranks.rank :: self.ranks.size]:
            inputs = sequence[:-1].unsqueeze(0)
            device = self.network.device
            logits = self.network(inputs.to(device), document_starts(inputs).to(device))[0]
            loss = F.cross_entropy(logits, sequence[1:].to(device), reduction="sum") / targets
            loss.backward()
        for p in self.network.parameters():
            p.grad = self.ranks.total(torch.zeros_like(p) if p.grad is None else p.grad)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.section.clip_norm)
        self.optimizer.step()
