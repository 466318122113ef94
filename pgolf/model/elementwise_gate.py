"""Elementwise gate: every channel of every head is gated, by a further width x width matrix.

    o <- sigmoid(W y) * o        W [heads * dim, width]

Slightly better a step than a gate per head and too many bytes in every configuration tried (PR 2071). The
matrix is an attention matrix like the others: Muon trains it, the attention grid quantizes it.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pgolf.model.head_gate import HeadGateModule
from pgolf.model.linear import Linear
from pgolf.model.roles import Role
from pgolf.section import Section


class ElementwiseGate(Section):
    kind: Literal["elementwise_gate"] = "elementwise_gate"

    def build(self, width: int, heads: int, dim: int) -> "ElementwiseGateModule":
        return ElementwiseGateModule(width, heads * dim)


class ElementwiseGateModule(HeadGateModule):
    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.w = Linear(width, channels, Role.ATTENTION, zero=True)

    def forward(
        self,
        o: Float[Tensor, "batch time heads dim"],
        y: Float[Tensor, "batch time width"],
        raw_q: Float[Tensor, "batch time q_out"],
    ) -> Float[Tensor, "batch time heads dim"]:
        return o * torch.sigmoid(self.w(y)).view_as(o)
