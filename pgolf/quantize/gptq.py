"""GPTQ with full Hessians: round column by column, let later columns make up for it.

The sweep is pgolf.quantize.sweep, with H = X^T X over calibration inputs (damped), which minimizes the
Hessian-weighted error greedily (https://arxiv.org/abs/2210.17323). Steps come from the original rows, once. A dead
input (zero diagonal) has its weights set to zero, since no calibration token ever saw them. A Hessian that cannot
be factored raises: falling back to another algorithm would credit it with GPTQ's name.

Tables that hashes index are rounded: they have no inputs to take a Hessian from. The tied table has two sides,
and a Hessian of the head's inputs alone is what the records solve it with (PR 1394).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.formats.quantized import QuantizedMatrix, steps_of
from pgolf.model.roles import Role
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.problem import Finish, Matrices, Problem, QuantizerSection, batches
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.sharing import Shared
from pgolf.quantize.statistics import HESSIANS
from pgolf.quantize.sweep import factor, sweep


class Gptq(QuantizerSection):
    kind: Literal["gptq"] = "gptq"
    grids: RoleGrids = RoleGrids()
    damping: float = Field(0.01, gt=0)  # added to the diagonal, as a fraction of its mean
    act_order: bool = True  # largest diag H first
    block: int = Field(64, ge=1)  # columns

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({HESSIANS})

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        return self.grids.expected_bits(role, rows, cols)

    def quantize(
        self, w: Float[Tensor, "rows cols"], grid: SdClip, hessian: Float[Tensor, "cols cols"]
    ) -> QuantizedMatrix:
        """Quantize one matrix against its Hessian. Raises HessianNotPositive if it cannot be factored."""
        return self.quantize_batch(w.unsqueeze(0), grid, hessian.unsqueeze(0))[0]

    def quantize_batch(
        self, w: Float[Tensor, "batch rows cols"], grid: SdClip, hessians: Float[Tensor, "batch cols cols"]
    ) -> list[QuantizedMatrix]:
        """Matrices of one shape on one grid, together."""
        rows = torch.stack([grid.row_codes(one) for one in w])
        factors = factor(hessians.to(w.device), self.damping, self.act_order)
        codes = sweep(w, factors, steps_of(rows).unsqueeze(2), grid.qmax, block=self.block)
        return [QuantizedMatrix(q, r) for q, r in zip(codes.short().cpu(), rows.cpu(), strict=True)]

    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        """Shared among the ranks. Raises HessianNotPositive."""
        matrices = [name for name in problem.weights if problem.roles[name].is_matrix]
        parts = [_Part(self, problem, names) for names in batches(problem, matrices)]
        found = self.grids.gates(problem.weights, problem.roles) | Shared(problem.runtime, parts).each(
            lambda part: part.solved()
        )
        ordered = {name: found[name] for name in problem.weights if name in found}
        return ordered if finish is None else finish(ordered, None)


@dataclass(frozen=True)
class _Part:
    """Matrices of one shape and role."""

    section: Gptq
    problem: Problem
    names: list[str]

    @property
    def cost(self) -> float:
        rows, cols = self.problem.weights[self.names[0]].shape
        return len(self.names) * rows * cols * cols

    def prepare(self) -> None:
        """Everything is done once."""

    def solved(self) -> Matrices:
        p = self.problem
        grid = self.section.grids.of(p.roles[self.names[0]])
        if p.roles[self.names[0]] is Role.TABLE:
            rounded = Rtn(grids=self.section.grids)
            return {name: rounded.quantize(p.weights[name], grid) for name in self.names}
        w = torch.stack([p.weights[name] for name in self.names]).to(p.runtime.device)
        hessians = torch.stack([p.statistics.hessians[name] for name in self.names])
        return dict(zip(self.names, self.section.quantize_batch(w, grid, hessians), strict=True))
