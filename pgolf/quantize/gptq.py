"""GPTQ with full Hessians: round column by column, let later columns make up for the error.

With H = X^T X over calibration inputs (damped) and U the upper Cholesky factor of H^-1, for each column j
in order of falling diag H:

    q_j = code(w_j);   e_j = (w_j - step q_j) / U_jj;   w_l <- w_l - e_j U_jl  for l > j

which minimizes the Hessian-weighted error greedily (https://arxiv.org/abs/2210.17323). Steps come from
the original rows, once. Columns are processed in blocks so that most of the work is a matrix product.
A dead input (zero diagonal) has its weights set to zero, since no calibration token ever saw them. A
Hessian that cannot be factored raises: falling back to another algorithm would credit it with GPTQ's
name.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.errors import PgolfError
from pgolf.formats.quantized import QuantizedMatrix
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.sd_clip import SdClip
from pgolf.section import Section


class HessianNotPositive(PgolfError):
    """The damped Hessian has no Cholesky factor: calibration produced something that is no Gram matrix."""


class Gptq(Section):
    kind: Literal["gptq"] = "gptq"
    grids: RoleGrids = RoleGrids()
    damping: float = Field(0.01, gt=0)  # added to the diagonal, as a fraction of its mean
    act_order: bool = True  # largest diag H first
    block: int = Field(128, ge=1)  # columns

    @property
    def needs_hessians(self) -> bool:
        return True

    def quantize(
        self, w: Float[Tensor, "rows cols"], grid: SdClip, hessian: Float[Tensor, "cols cols"] | None = None
    ) -> QuantizedMatrix:
        """Quantize one matrix against its Hessian.

        Raises:
            HessianNotPositive: if the damped Hessian cannot be factored.
        """
        assert hessian is not None, "the run config pairs GPTQ with calibration"
        step = grid.steps(w)
        h, w = hessian.double(), w.double().clone()
        dead = h.diagonal() == 0
        h = h + torch.diag(dead.double())
        w[:, dead] = 0
        order = h.diagonal().argsort(descending=True, stable=True) if self.act_order else torch.arange(len(h))
        upper = inverse_factor(h[order][:, order], self.damping)
        q = self._sweep(w[:, order], upper, step.double(), grid)
        return QuantizedMatrix(q[:, order.argsort()].to(torch.int8), step)

    def _sweep(
        self,
        w: Float[Tensor, "rows cols"],
        upper: Float[Tensor, "cols cols"],
        step: Float[Tensor, "rows 1"],
        grid: SdClip,
    ) -> Float[Tensor, "rows cols"]:
        q = torch.zeros_like(w)
        cols = w.shape[1]
        for begin in range(0, cols, self.block):
            end = min(begin + self.block, cols)
            errors = torch.zeros(w.shape[0], end - begin, dtype=w.dtype)
            for j in range(begin, end):
                q[:, j] = grid.codes(w[:, j], step[:, 0])
                error = (w[:, j] - q[:, j] * step[:, 0]) / upper[j, j]
                w[:, j + 1 : end] -= error.unsqueeze(1) * upper[j, j + 1 : end]
                errors[:, j - begin] = error
            w[:, end:] -= errors @ upper[begin:end, end:]
        return q


def inverse_factor(h: Float[Tensor, "n n"], damping: float) -> Float[Tensor, "n n"]:
    """The upper U with U^T U = (H + damping * mean(diag H) * I)^-1. Raises HessianNotPositive."""
    damped = h + torch.eye(len(h), dtype=h.dtype) * (damping * h.diagonal().mean())
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed or not torch.isfinite(lower).all():
        raise HessianNotPositive(f"the damped {len(h)} x {len(h)} Hessian is not positive definite")
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
