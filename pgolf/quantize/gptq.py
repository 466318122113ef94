"""GPTQ with full Hessians: round column by column, let later columns make up for the error.

With H = X^T X over calibration inputs (damped) and U the upper Cholesky factor of H^-1, for each column j
in order of falling diag H:

    q_j = code(w_j);   e_j = (w_j - step q_j) / U_jj;   w_l <- w_l - e_j U_jl  for l > j

which minimizes the Hessian-weighted error greedily (https://arxiv.org/abs/2210.17323); the sweep itself is
pgolf.quantize.sweep. Steps come from the original rows, once. A dead input (zero diagonal) has its weights
set to zero, since no calibration token ever saw them. A Hessian that cannot be factored raises: falling
back to another algorithm would credit it with GPTQ's name.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, int8

from pgolf.formats.quantized import QuantizedMatrix
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.sweep import HessianNotPositive as HessianNotPositive
from pgolf.quantize.sweep import factor, sweep
from pgolf.section import Section


class Gptq(Section):
    kind: Literal["gptq"] = "gptq"
    grids: RoleGrids = RoleGrids()
    damping: float = Field(0.01, gt=0)  # added to the diagonal, as a fraction of its mean
    act_order: bool = True  # largest diag H first
    block: int = Field(64, ge=1)  # columns between two updates of all the columns to come

    @property
    def needs_hessians(self) -> bool:
        return True

    def quantize(
        self, w: Float[Tensor, "rows cols"], grid: SdClip, hessian: Float[Tensor, "cols cols"] | None = None
    ) -> QuantizedMatrix:
        """Quantize one matrix against its Hessian.

        Raises:
            HessianNotPositive: if the damped Hessian cannot be factored.
            ValueError: if a weight is NaN or infinite.
        """
        assert hessian is not None, "the run config pairs GPTQ with calibration"
        step = grid.steps(w)
        known = factor(hessian.unsqueeze(0), self.damping, self.act_order)
        q = sweep(w.unsqueeze(0), known, step.unsqueeze(0), grid.qmax, block=self.block)
        return QuantizedMatrix(q[0].to(int8), step)
