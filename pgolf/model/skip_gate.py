"""Gated U-Net skips: the skip and the stream are blended instead of added (PR 1089 -> 1218).

    x <- g * x + (1 - g) * (w_j * s)        g = sigmoid(gate_j) per channel, gate = 0: an even blend

It has no settings; the U-Net's skips hold it or do not.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pgolf.model.roles import Role
from pgolf.section import Section


class SkipGate(Section):
    def build(self, skips: int, width: int) -> "SkipGateModule":
        return SkipGateModule(skips, width)


class SkipGateModule(nn.Module):
    ROLES = {"gate": Role.CONTROL}

    def __init__(self, skips: int, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.empty(skips, width))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.gate)

    def forward(
        self, x: Float[Tensor, "*b d"], skip: Float[Tensor, "*b d"], decoder_position: int
    ) -> Float[Tensor, "*b d"]:
        g = torch.sigmoid(self.gate[decoder_position]).to(x.dtype)
        return g * x + (1 - g) * skip
