"""Rotary positions on the first `dims` dimensions of each head (partial RoPE, PR 315).

    inv_i = base^(-2i/dims)        out1 = x1 cos + x2 sin        out2 = -x1 sin + x2 cos

with x1, x2 the two halves of the rotated part; dimensions beyond it carry no position. Positions run
through a row without reset at documents: the rotation is relative, and attention never crosses them.
`scaling` adapts the frequencies to windows longer than the base is meant for.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from pgolf.model.ntk import Ntk
from pgolf.model.yarn import Yarn
from pgolf.section import RuleBroken, Section

Scaling = Annotated[Ntk | Yarn, Field(discriminator="kind")]


class Rope(Section):
    dims: int = Field(16, ge=2)  # rotated dimensions per head, even
    base: float = Field(10_000.0, gt=1)
    scaling: Scaling | None = None

    @field_validator("dims")
    @classmethod
    def _even(cls, dims: int) -> int:
        if dims % 2:
            raise RuleBroken(
                "RoPE rotates pairs of dimensions", f"dims={dims}", f"dims={dims - 1} or {dims + 1}"
            )
        return dims

    @model_validator(mode="after")
    def _scalable(self) -> "Rope":
        if isinstance(self.scaling, Ntk) and self.dims < 4:
            raise RuleBroken("NTK scaling has the exponent dims / (dims - 2)", "dims=2", "rope.dims=4")
        return self

    def build(self) -> "RopeModule":
        if self.scaling is None:
            return RopeModule(self.dims, self.base)
        base = self.scaling.scaled_base(self.dims, self.base)
        stretch = self.scaling.stretch(self.dims, self.base)
        return RopeModule(self.dims, base, stretch, self.scaling.magnitude)


class RopeModule(nn.Module):
    def __init__(
        self, dims: int, base: float, stretch: tuple[float, ...] = (), magnitude: float = 1.0
    ) -> None:
        """`stretch` multiplies every pair's frequency, `magnitude` the whole vector."""
        super().__init__()
        self.dims, self.base, self.stretch, self.magnitude = dims, base, stretch, magnitude

    def forward(
        self, x: Float[Tensor, "batch time heads dim"], first: int = 0
    ) -> Float[Tensor, "batch time heads dim"]:
        """`first`: the position of the first in x."""
        half = self.dims // 2
        inverse = self.base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
        if self.stretch:
            inverse = inverse * torch.tensor(self.stretch, device=x.device, dtype=torch.float32)
        angle = torch.arange(first, first + x.shape[1], device=x.device, dtype=torch.float32).outer(inverse)
        cos, sin = (f.to(x.dtype).unsqueeze(1) for f in (angle.cos(), angle.sin()))
        x1, x2, rest = x.split([half, half, x.shape[3] - self.dims], dim=3)
        turned = torch.cat([x1 * cos + x2 * sin, x2 * cos - x1 * sin, rest], dim=3)
        return turned if self.magnitude == 1 else self.magnitude * turned
