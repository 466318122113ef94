"""Adapters: what a layer, or a document, adds to a matrix that it shares with others.

    y = W x + (alpha / rank) B A x        A [rank, in] ~ N(0, 1 / rank), B [out, rank] = 0: no change at first

A matrix takes any number of them (`Linear.forward(x, *adapters)`); a layer's come to it by the matrix's name
(`Reads.adapting`). A and B may carry a leading dimension of rows, [rows, rank, in] and [rows, out, rank]:
then every row of a batch has its own, which is what adapting to documents at test time needs. Layer sharing
holds one for every executed layer (https://arxiv.org/abs/2106.09685; the factors are matrices like others,
quantized by their own inputs' statistics).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pgolf.model.roles import Role

Adapter = Callable[[Tensor], Tensor]  # [batch, time, in] -> [batch, time, out], in the same dtype
Adapters = Mapping[str, Adapter]  # of one layer, by the name of the matrix: one of MATRICES

MATRICES = ("q", "k", "v", "o", "up", "down")


class LowRank(nn.Module):
    """One adapter; with `rows`, one for every row of a batch."""

    ROLES = {"a": Role.PROJECTION, "b": Role.PROJECTION}

    def __init__(
        self, inputs: int, outputs: int, rank: int, alpha: float | None = None, rows: int | None = None
    ) -> None:
        """alpha None: the rank, so that the scale is 1."""
        super().__init__()
        lead = () if rows is None else (rows,)
        self.scale = 1.0 if alpha is None else alpha / rank
        self.a = nn.Parameter(torch.empty(*lead, rank, inputs))
        self.b = nn.Parameter(torch.empty(*lead, outputs, rank))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.a, std=self.a.shape[-2] ** -0.5, generator=generator)
        nn.init.zeros_(self.b)

    def narrowed(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch rank"]:
        """A x: what B multiplies."""
        return x @ self.a.to(x.dtype).mT

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return self.scale * (self.narrowed(x) @ self.b.to(x.dtype).mT)


@dataclass(frozen=True)
class Factors:
    """The same of factors that somebody else keeps."""

    a: Float[Tensor, "*rows rank inputs"]
    b: Float[Tensor, "*rows outputs rank"]
    scale: float

    def __call__(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return self.scale * (x @ self.a.to(x.dtype).mT @ self.b.to(x.dtype).mT)

    def rows(self, chosen: Sequence[int]) -> "Factors":
        """Of some rows of a batch."""
        return Factors(self.a[list(chosen)], self.b[list(chosen)], self.scale)
