"""Gradient descent on the network's own parameters over scored text, shared by what does it now and then.

    g = clip(mean gradient of CE, clip_norm)        w <- w (1 - lr weight_decay) - lr u(g)

over disjoint sequences, `rows` of them a step, `epochs` passes over a chunk of them. Documents are islands, as in
training. What is adapted is the dequantized copy in float32, which never goes back to its grid; `begin` restores it.
Ranks share the sequences of a step and add up their gradients, so all of them hold the same weights.

u is any of the adapters' optimizers (row_optimizer.py), to which all parameters are one row: momentum, unless said
otherwise. Muon (PR 999) takes the matrices that it takes in training; tables and vectors step by its momentum.
AdamW at the rates of SGD destroys these networks (PR 1045, 526): its steps have one size, whatever the gradient's.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import accumulate
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from pgolf.data.starts import document_starts
from pgolf.errors import ConfigError, Infeasible, InfeasibleTrial
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.predictor import Scored
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.evaluate.ttt.row_optimizer import Momentum, Part, RowOptimizer
from pgolf.model.roles import MATRICES, Role
from pgolf.section import Section

AT_ONCE = 16_384  # positions of a forward
Piece = tuple[int, Tensor]  # where it begins in the stream, and its tokens


class DescentSection(Section):
    """A subclass says when, and over what."""

    carries: ClassVar[bool] = True
    chunk_tokens: int = Field(32_768, ge=1)  # targets that a learning rate is for
    sequence_tokens: int = Field(2048, ge=1)  # targets of a training sequence
    rows: int = Field(32, ge=1)  # sequences a step
    epochs: int = Field(3, ge=1)
    lr: float = Field(0.005, gt=0)
    optimizer: RowOptimizer = Momentum()
    clip_norm: float = Field(1.0, gt=0)
    parameters: Literal["all", "no_embedding", "scalars"] = "all"
    freeze_first: int = Field(0, ge=0)  # stored blocks that stay as they are

    def must_fit(self, executions: int, blocks: int) -> None:
        """Raises ConfigError if a network of so many executions and stored blocks cannot be adapted so."""
        self.frozen(blocks)

    def frozen(self, blocks: int) -> tuple[str, ...]:
        """How names of parameters begin that stay. Raises ConfigError if there are not as many blocks."""
        if self.freeze_first > blocks:
            raise ConfigError("evaluate.ttt.freeze_first counts stored blocks of the network",
                              f"freeze_first={self.freeze_first}", f"freeze_first={blocks} at most")  # fmt: skip
        return tuple(f"blocks.{number}." for number in range(self.freeze_first))

    def cosine(self, chunk: int, chunks: int) -> float:
        """The rate at a chunk: none is left for the last one, unless it is the only one."""
        return self.lr * 0.5 * (1 + math.cos(math.pi * chunk / max(chunks - 1, 1)))


class Descent:
    """A network on its way down: a copy, which `base` predicts by from here on. The one that was given stays."""

    def __init__(self, section: DescentSection, base: Neural) -> None:
        self.section, self.artifact = section, dict(base.network.named_parameters())
        base.network = network = self.network = deepcopy(base.network).requires_grad_(False)
        frozen = section.frozen(len(network.blocks))
        trained = {
            name: p
            for name, p in network.named_parameters()
            if not name.startswith(frozen) and _chosen(section.parameters, network.roles[name])
        }
        self.trained = list(trained.values())
        if not self.trained:
            raise ConfigError("evaluate.ttt leaves parameters to learn",
                              f"freeze_first={section.freeze_first}, parameters={section.parameters}: none are left",
                              "freeze_first=0, or parameters=all")  # fmt: skip
        self.sizes = [p.numel() for p in self.trained]
        begins = accumulate(self.sizes, initial=0)
        self.matrices = [
            Part(at, *p.shape)
            for at, (name, p) in zip(begins, trained.items(), strict=False)
            if network.roles[name] in MATRICES
        ]

    def begin(self, ranks: Ranks = ALONE) -> None:
        """From the artifact's weights, at rest."""
        self.ranks = ranks
        self.network.load_state_dict(self.artifact)
        self.told: list[Piece] = []
        self.rest()

    def tell(self, scored: Scored) -> None:
        """Remember what a round scored."""
        pieces = [(begin - 1, piece) for (begin, _), piece in zip(scored.spans, scored.pieces, strict=True)]
        joined: list[Piece] = []
        for at, piece in sorted([*self.told, *pieces], key=lambda told: told[0]):
            if joined and joined[-1][0] + len(joined[-1][1]) == at + 1:
                at, before = joined.pop()
                piece = torch.cat([before, piece[1:]])
            joined.append((at, piece))
        self.told = joined

    def rest(self) -> None:
        """Forget what the optimizer remembers."""
        weights, device = sum(self.sizes), self.network.device
        self.moments = [torch.zeros(1, weights, device=device) for _ in range(self.section.optimizer.moments)]
        self.steps = 0

    def sequences(self) -> list[Int[Tensor, " _"]]:
        """Training sequences of what was told: each holds one token more than it has targets."""
        width = self.section.sequence_tokens
        return [
            piece[at : at + width + 1] for _, piece in self.told for at in range(0, len(piece) - 1, width)
        ]

    def chunk(self, sequences: Sequence[Int[Tensor, " _"]], lr: float) -> None:
        """All epochs over a chunk of sequences.

        Raises:
            InfeasibleTrial: on all ranks, if a gradient is not a number.
        """
        for _ in range(self.section.epochs):
            for at in range(0, len(sequences), self.section.rows):
                self._step(sequences[at : at + self.section.rows], lr)

    def _step(self, sequences: Sequence[Int[Tensor, " _"]], lr: float) -> None:
        g = self.ranks.total(self._gradient(sequences))
        norm = float(g.norm())
        if not math.isfinite(norm):
            raise InfeasibleTrial(Infeasible(reason="diverged", measured=None, limit=self.section.clip_norm))
        g *= min(1.0, self.section.clip_norm / (norm + 1e-6))
        optimizer, self.steps = self.section.optimizer, self.steps + 1
        u = optimizer.update(g.unsqueeze(0), self.moments, self.steps, self.matrices)
        for p, step in zip(self.trained, u[0].split(self.sizes), strict=True):
            p.mul_(1 - lr * optimizer.weight_decay).sub_(step.view_as(p), alpha=lr)

    def _gradient(self, sequences: Sequence[Int[Tensor, " _"]]) -> Float[Tensor, " weights"]:
        """This rank's part of the mean loss's gradient, all parameters in one."""
        for p in self.trained:
            p.requires_grad_(True)
        total = torch.zeros(sum(self.sizes), device=self.network.device)
        targets = sum(len(sequence) - 1 for sequence in sequences)
        own = sequences[self.ranks.rank :: self.ranks.size]
        together = max(AT_ONCE // self.section.sequence_tokens, 1)
        for at in range(0, len(own), together):
            loss = self._loss(own[at : at + together]) / targets
            found = torch.autograd.grad(loss, self.trained, allow_unused=True)
            pairs = zip(self.trained, found, strict=True)
            total += torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])
        self.network.requires_grad_(False)
        return total

    def _loss(self, sequences: Sequence[Int[Tensor, " _"]]) -> Float[Tensor, ""]:
        """Sum over the targets."""
        inputs = pad_sequence([s[:-1] for s in sequences], batch_first=True)
        targets = pad_sequence([s[1:] for s in sequences], batch_first=True, padding_value=-1)
        device = self.network.device
        logits = self.network(inputs.to(device), document_starts(inputs).to(device))
        return F.cross_entropy(
            logits.flatten(0, 1), targets.to(device).flatten(), ignore_index=-1, reduction="sum"
        )


def _chosen(which: str, role: Role) -> bool:
    return which == "all" or (role != Role.EMBEDDING if which == "no_embedding" else not role.is_matrix)
