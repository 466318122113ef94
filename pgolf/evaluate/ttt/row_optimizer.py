"""How what is learned at test time steps: many rows at once, none of which knows of another.

    w <- w (1 - lr weight_decay) - lr u

with u what a gradient g makes. A row is a document's adapters, or all that is trained of a network. The records'
AdamW has beta1 = 0: steps of nearly one size, whatever the gradient's (PR 1530). Biases are corrected by the row's
own count of steps.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.optim.orthogonalizer import orthogonalize
from pgolf.section import Section


class Part(NamedTuple):
    """Where a matrix lies in a row."""

    begin: int
    rows: int
    cols: int

    @property
    def end(self) -> int:
        return self.begin + self.rows * self.cols

    def of(self, values: Float[Tensor, "n weights"]) -> Float[Tensor, "n rows cols"]:
        """A view of the matrices."""
        return values[:, self.begin : self.end].unflatten(1, (self.rows, self.cols))


Rows = Float[Tensor, "n weights"]


class AdamW(Section):
    """u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)"""

    kind: Literal["adamw"] = "adamw"
    beta1: float = Field(0.0, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    eps: float = Field(1e-10, gt=0)
    weight_decay: float = Field(0.5, ge=0)

    @property
    def moments(self) -> int:
        """Numbers to remember for every weight."""
        return 2 if self.beta1 else 1

    def update(self, g: Rows, moments: Sequence[Rows], count: int, parts: Sequence[Part]) -> Rows:
        """u at the rows' step `count`, from 1 on; moments are changed."""
        v = moments[0].mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        root = (v / (1 - self.beta2**count)).sqrt_().add_(self.eps)
        if not self.beta1:
            return g / root
        m = moments[1].lerp_(g, 1 - self.beta1)
        return m / (1 - self.beta1**count) / root


class RmsProp(Section):
    """u = g / (sqrt(v) + eps): the first steps are the longest."""

    moments: ClassVar[int] = 1
    kind: Literal["rmsprop"] = "rmsprop"
    beta2: float = Field(0.99, ge=0, lt=1)
    eps: float = Field(1e-10, gt=0)
    weight_decay: float = Field(0.0, ge=0)

    def update(self, g: Rows, moments: Sequence[Rows], count: int, parts: Sequence[Part]) -> Rows:
        v = moments[0].mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        return g / v.sqrt().add_(self.eps)


class Momentum(Section):
    """v <- momentum v + g;  u = v"""

    moments: ClassVar[int] = 1
    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)

    def update(self, g: Rows, moments: Sequence[Rows], count: int, parts: Sequence[Part]) -> Rows:
        return torch.add(g, moments[0], alpha=self.momentum, out=moments[0])


class RowMuon(Section):
    """v <- momentum v + g;  u = sqrt(max(1, rows / cols)) orthogonalized (g + momentum v), for each matrix.

    What lies in no matrix steps by u = g + momentum v.
    """

    moments: ClassVar[int] = 1
    kind: Literal["muon"] = "muon"
    momentum: float = Field(0.9, ge=0, lt=1)
    newton_schulz_steps: int = Field(5, ge=1, le=12)
    weight_decay: float = Field(0.0, ge=0)

    def update(self, g: Rows, moments: Sequence[Rows], count: int, parts: Sequence[Part]) -> Rows:
        v = moments[0].mul_(self.momentum).add_(g)
        u = torch.add(g, v, alpha=self.momentum)
        for part in parts:
            x = orthogonalize(part.of(u), self.newton_schulz_steps).to(u.dtype)
            part.of(u).copy_(x * max(1.0, part.rows / part.cols) ** 0.5)
        return u


RowOptimizer = Annotated[AdamW | RmsProp | Momentum | RowMuon, Field(discriminator="kind")]
