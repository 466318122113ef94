"""Sparse attention gate: a gate per head that reads the first few channels of the block's input.

    g_h = sigmoid(scale * (W y[:window])_h)        o_h <- g_h o_h        W [heads, window] = 0: g = 1/2

96 parameters a layer do what the dense gate's 4096 did (PR 1787); scale 1 -> 0.5 in PR 1855.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.model.head_gate import WindowGateModule
from pgolf.section import Section


class SparseGate(Section):
    kind: Literal["sparse_gate"] = "sparse_gate"
    window: int = Field(12, ge=1)  # channels read
    scale: float = Field(1.0, gt=0)

    def build(self, width: int, heads: int, dim: int) -> "SparseGateModule":
        return SparseGateModule(heads, min(self.window, width), self.scale)


class SparseGateModule(WindowGateModule):
    def __init__(self, heads: int, window: int, scale: float) -> None:
        super().__init__(heads, window)
        self.scale = scale

    def forward(
        self,
        o: Float[Tensor, "batch time heads dim"],
        y: Float[Tensor, "batch time width"],
        raw_q: Float[Tensor, "batch time q_out"],
    ) -> Float[Tensor, "batch time heads dim"]:
        return o * torch.sigmoid(self.scale * self.logits(y))
