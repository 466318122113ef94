"""Additive U-Net skips: the second half of the blocks reads the first half's outputs, last in first out.

    x <- x + w_j * s        before decoder block j, with s the output of encoder block enc - 1 - j

The first floor(L/2) blocks are the encoder. w is per channel and starts at 1 (the baseline's form).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pgolf.model.roles import Role
from pgolf.section import Section


class UNet(Section):
    def build(self, layers: int, width: int) -> "UNetModule":
        return UNetModule(layers // 2, width)


class UNetModule(nn.Module):
    ROLES = {"w": Role.CONTROL}

    def __init__(self, skips: int, width: int) -> None:
        super().__init__()
        self.skips = skips
        self.w = nn.Parameter(torch.empty(skips, width))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.w)

    def forward(
        self, x: Float[Tensor, "*b d"], decoder_position: int, stack: list[Tensor]
    ) -> Float[Tensor, "*b d"]:
        return x + self.w[decoder_position].to(x.dtype) * stack.pop() if stack else x
