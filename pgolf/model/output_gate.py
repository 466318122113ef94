"""Attention output gate: as the sparse gate, but open at the start (PR 1667).

    g_h = 2 sigmoid((W s[:window])_h)        o_h <- g_h o_h        W [heads, window] = 0: g = 1

s is the block's normalized input, or the raw query projection (before norm and RoPE).
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.model.head_gate import WindowGateModule
from pgolf.section import Section


class OutputGate(Section):
    kind: Literal["output_gate"] = "output_gate"
    window: int = Field(12, ge=1)  # channels read
    source: Literal["input", "query"] = "input"

    def build(self, width: int, heads: int, dim: int) -> "OutputGateModule":
        return OutputGateModule(heads, min(self.window, width), self.source == "query")


class OutputGateModule(WindowGateModule):
    def __init__(self, heads: int, window: int, from_query: bool) -> None:
        super().__init__(heads, window)
        self.from_query = from_query

    def forward(
        self,
        o: Float[Tensor, "batch time heads dim"],
        y: Float[Tensor, "batch time width"],
        raw_q: Float[Tensor, "batch time q_out"],
    ) -> Float[Tensor, "batch time heads dim"]:
        return o * (2 * torch.sigmoid(self.logits(raw_q if self.from_query else y)))
