"""Dense head gate: a gate per head that reads the whole block input (arXiv 2505.06708, PR 1736).

    g_h = sigmoid((W y)_h)        o_h <- g_h o_h        W [heads, width] ~ N(0, init_std^2): g near 1/2

With `bias` the older form (PR 609, 1019): sigmoid(W y + b), a learned b per head that starts there (4: nearly
open). The matrix is small; `quant_gate` stores it in eight bits.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.head_gate import HeadGateModule
from pgolf.model.roles import Role
from pgolf.section import Section


class DenseGate(Section):
    kind: Literal["dense_gate"] = "dense_gate"
    init_std: float = Field(0.005, ge=0)
    bias: float | None = None  # initial value of a bias per head; None: no bias

    def build(self, width: int, heads: int, dim: int) -> "DenseGateModule":
        return DenseGateModule(width, heads, self.init_std, self.bias)


class DenseGateModule(HeadGateModule):
    ROLES = {"w": Role.GATE, "b": Role.CONTROL}

    def __init__(self, width: int, heads: int, init_std: float, bias: float | None) -> None:
        super().__init__()
        self.init_std, self.initial_bias = init_std, bias
        self.w = nn.Parameter(torch.empty(heads, width))
        self.b = nn.Parameter(torch.empty(heads)) if bias is not None else None

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.w, std=self.init_std, generator=generator)
        if self.b is not None:
            nn.init.constant_(self.b, self.initial_bias or 0.0)

    def forward(
        self,
        o: Float[Tensor, "batch time heads dim"],
        y: Float[Tensor, "batch time width"],
        raw_q: Float[Tensor, "batch time q_out"],
    ) -> Float[Tensor, "batch time heads dim"]:
        bias = None if self.b is None else self.b.to(y.dtype)
        return o * torch.sigmoid(F.linear(y, self.w.to(y.dtype), bias)).unsqueeze(3)
