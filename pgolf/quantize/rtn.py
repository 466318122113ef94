"""Round-to-nearest: every weight to the closest point of its row's grid, no data needed.

The baseline that GPTQ has to beat on the same grid.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pgolf.formats.quantized import QuantizedMatrix
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.sd_clip import SdClip
from pgolf.section import Section


class Rtn(Section):
    kind: Literal["rtn"] = "rtn"
    grids: RoleGrids = RoleGrids()

    @property
    def needs_hessians(self) -> bool:
        return False

    def quantize(
        self, w: Float[Tensor, "rows cols"], grid: SdClip, hessian: Float[Tensor, "cols cols"] | None = None
    ) -> QuantizedMatrix:
        """Quantize one matrix. `hessian` belongs to the shared signature and is not used."""
        step = grid.steps(w)
        return QuantizedMatrix(grid.codes(w.float(), step.float()).to(torch.int8), step)
