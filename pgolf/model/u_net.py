"""U-Net skips: the second half of the executed blocks reads the first half's outputs, last in first out.

    x <- x + w_j * s        before decoder step j, with s the output of encoder step enc - 1 - j

The first half (rounded down) of the execution order is the encoder, so recurrence lengthens both. w is per
channel and decoder step and starts at 1 (the baseline's form); `gate` blends instead of adding. When
recurrence begins in mid-training a step's row comes to serve another layer; the records live with that.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pgolf.model.roles import Role
from pgolf.model.skip_gate import SkipGate, SkipGateModule
from pgolf.section import Section


class UNet(Section):
    gate: SkipGate | None = None

    def build(self, steps: int, width: int) -> "UNetModule":
        """For an execution order of up to `steps` blocks."""
        skips = steps // 2
        return UNetModule(skips, width, self.gate.build(skips, width) if self.gate else None)


class UNetModule(nn.Module):
    ROLES = {"w": Role.CONTROL}

    def __init__(self, skips: int, width: int, gate: SkipGateModule | None) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(skips, width))
        self.gate = gate

    def reset(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.w)

    def forward(
        self, x: Float[Tensor, "*b d"], decoder_position: int, stack: list[Tensor]
    ) -> Float[Tensor, "*b d"]:
        if not stack or decoder_position >= len(self.w):
            return x
        skip = self.w[decoder_position].to(x.dtype) * stack.pop()
        return x + skip if self.gate is None else self.gate(x, skip, decoder_position)
