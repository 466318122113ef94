"""Headwise gate: the dense gate's rows live in the query projection, one further output a head.

    g = sigmoid(the last `heads` outputs of Wq y)        o_h <- g_h o_h

The same function as the dense gate, trained by Muon and quantized with the query matrix
(PR 2005, 2071; -0.0005 BPB at both scales it was measured at).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pgolf.model.head_gate import HeadGateModule
from pgolf.section import Section


class HeadwiseGate(Section):
    kind: Literal["headwise_gate"] = "headwise_gate"

    def build(self, width: int, heads: int, dim: int) -> "HeadwiseGateModule":
        return HeadwiseGateModule(heads)


class HeadwiseGateModule(HeadGateModule):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.gates_in_q = heads

    def forward(
        self,
        o: Float[Tensor, "batch time heads dim"],
        y: Float[Tensor, "batch time width"],
        raw_q: Float[Tensor, "batch time q_out"],
    ) -> Float[Tensor, "batch time heads dim"]:
        return o * torch.sigmoid(raw_q[..., -self.gates_in_q :]).unsqueeze(3)
