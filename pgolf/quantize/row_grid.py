"""What grids with one step a row have in common: their ends, and the nearest code."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.section import Section


class RowGrid(Section):
    """A subclass says how a row's step is found."""

    bits: int = Field(6, ge=2, le=8)  # stored bits per weight, before entropy coding

    @property
    def qmax(self) -> int:
        return int(2 ** (self.bits - 1) - 1)

    def codes(self, w: Float[Tensor, "*any"], step: Float[Tensor, "*any_too"]) -> Float[Tensor, "*any"]:
        """Nearest codes on the grid, as floats; divides by the step that will be stored."""
        return torch.round(w / step).clamp(-self.qmax, self.qmax)
