"""Rotary positions on the first `dims` dimensions of each head (partial RoPE, PR 315).

    inv_i = base^(-2i/dims)        out1 = x1 cos + x2 sin        out2 = -x1 sin + x2 cos

with x1, x2 the two halves of the rotated part; dimensions beyond it carry no position. Positions run
through a row without reset at documents: the rotation is relative, and attention never crosses them.
"""

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from pgolf.section import RuleBroken, Section


class Rope(Section):
    dims: int = Field(16, ge=2)  # rotated dimensions per head, even
    base: float = Field(10_000.0, gt=1)

    @field_validator("dims")
    @classmethod
    def _even(cls, dims: int) -> int:
        if dims % 2:
            raise RuleBroken(
                "RoPE rotates pairs of dimensions", f"dims={dims}", f"dims={dims - 1} or {dims + 1}"
            )
        return dims

    def build(self) -> "RopeModule":
        return RopeModule(self.dims, self.base)


class RopeModule(nn.Module):
    def __init__(self, dims: int, base: float) -> None:
        super().__init__()
        self.dims, self.base = dims, base

    def forward(self, x: Float[Tensor, "batch time heads dim"]) -> Float[Tensor, "batch time heads dim"]:
        half = self.dims // 2
        inverse = self.base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
        angle = torch.arange(x.shape[1], device=x.device, dtype=torch.float32).outer(inverse)
        cos, sin = (f.to(x.dtype).unsqueeze(1) for f in (angle.cos(), angle.sin()))
        x1, x2, rest = x.split([half, half, x.shape[3] - self.dims], dim=3)
        return torch.cat([x1 * cos + x2 * sin, x2 * cos - x1 * sin, rest], dim=3)
