"""GPTQ with full Hessians: round column by column, let later columns make up for it.

The sweep is pgolf.quantize.sweep, with H = X^T X over calibration inputs (damped), which minimizes the
Hessian-weighted error greedily (https://arxiv.org/abs/2210.17323). Steps come from the original rows, once. A dead
input (zero diagonal) has its weights set to zero, since no calibration token ever saw them. A Hessian that cannot
be factored raises: falling back to another algorithm would credit it with GPTQ's name.

Tables that hashes index are rounded: they have no inputs to take a Hessian from. The tied table has two sides:
records solve it with a Hessian of the head's inputs alone (PR 1394); `tied` may add the look-up's, or round.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from pgolf.formats.quantized import QuantizedMatrix, steps_of
from pgolf.model.roles import Role
from pgolf.quantize.grids import Grid, RoleGrids
from pgolf.quantize.problem import Finish, Matrices, Problem, QuantizerSection, batches
from pgolf.quantize.protected_columns import ProtectedColumns
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sharing import Shared
from pgolf.quantize.statistics import FISHER, HESSIANS
from pgolf.quantize.sweep import factor, sweep
from pgolf.section import Section


class RoleDamping(Section):
    """A damping for each role, as PR 2051 tuned them."""

    embedding: float = Field(0.005, gt=0)
    attention: float = Field(0.01, gt=0)
    mlp: float = Field(0.02, gt=0)


class Gptq(QuantizerSection):
    kind: Literal["gptq"] = "gptq"
    grids: RoleGrids = RoleGrids()
    damping: float = Field(0.01, gt=0)  # added to the diagonal, as a fraction of its mean
    dampings: RoleDamping | None = None  # None: `damping` for every role
    act_order: bool = True  # largest diag H first
    block: int = Field(64, ge=1)  # columns
    protect: ProtectedColumns | None = None
    tied: Literal["head", "both", "rounded"] = "head"  # what the tied table is solved for

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({HESSIANS, FISHER} if self.tied == "both" else {HESSIANS})

    def damping_of(self, role: Role) -> float:
        if self.dampings is None:
            return self.damping
        by_role = {Role.EMBEDDING: self.dampings.embedding, Role.MLP: self.dampings.mlp}
        return by_role.get(role, self.dampings.attention)

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        return self.grids.expected_bits(role, rows, cols)

    def quantize(
        self, w: Float[Tensor, "rows cols"], grid: Grid, hessian: Float[Tensor, "cols cols"]
    ) -> QuantizedMatrix:
        """Quantize one matrix against its Hessian. Raises HessianNotPositive if it cannot be factored."""
        return self.quantize_batch(w.unsqueeze(0), grid, hessian.unsqueeze(0))[0]

    def quantize_batch(
        self,
        w: Float[Tensor, "batch rows cols"],
        grid: Grid,
        hessians: Float[Tensor, "batch cols cols"],
        damping: float | None = None,
        protected: Bool[Tensor, "batch cols"] | None = None,
    ) -> list[QuantizedMatrix]:
        """Matrices of one shape on one grid, together, their protected columns on a finer one."""
        rows = torch.stack([grid.row_codes(one) for one in w])
        factors = factor(hessians.to(w.device), damping or self.damping, self.act_order)
        if protected is None or self.protect is None:
            codes = sweep(w, factors, steps_of(rows).unsqueeze(2), grid.qmax, block=self.block)
            return [QuantizedMatrix(q, r) for q, r in zip(codes.short().cpu(), rows.cpu(), strict=True)]
        cols = protected.to(w.device).short() * self.protect.step_code(grid.qmax)
        most = (grid.qmax / steps_of(cols).double()).round().unsqueeze(1)
        steps = steps_of(rows.unsqueeze(2) + cols.unsqueeze(1))
        codes = sweep(w, factors, steps, most, block=self.block)
        parts = zip(codes.short().cpu(), rows.cpu(), cols.cpu(), strict=True)
        return [QuantizedMatrix(q, r, c if c.any() else None) for q, r, c in parts]

    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        """Shared among the ranks. Raises HessianNotPositive."""
        matrices = [name for name in problem.weights if problem.roles[name].is_matrix]
        hessians = {n: h for n in matrices if (h := self._hessian(problem, n)) is not None}
        protected = (
            None
            if self.protect is None
            else self.protect.columns({n: problem.weights[n] for n in hessians}, hessians)
        )
        parts = [_Part(self, problem, names, hessians, protected) for names in batches(problem, matrices)]
        found = self.grids.gates(problem.weights, problem.roles) | Shared(problem.runtime, parts).each(
            lambda part: part.solved()
        )
        ordered = {name: found[name] for name in problem.weights if name in found}
        return ordered if finish is None else finish(ordered, None)

    def _hessian(self, problem: Problem, name: str) -> Float[Tensor, "cols cols"] | None:
        """What a matrix is solved with; None: it is rounded."""
        role, s = problem.roles[name], problem.statistics
        if role is Role.TABLE or (role is Role.EMBEDDING and self.tied == "rounded"):
            return None
        return s.inputs(name) if role is Role.EMBEDDING and self.tied == "both" else s.hessians[name]


@dataclass(frozen=True)
class _Part:
    """Matrices of one shape and role."""

    section: Gptq
    problem: Problem
    names: list[str]
    hessians: Mapping[str, Float[Tensor, "cols cols"]]
    protected: Mapping[str, Bool[Tensor, " cols"]] | None

    @property
    def cost(self) -> float:
        rows, cols = self.problem.weights[self.names[0]].shape
        return len(self.names) * rows * cols * cols

    def prepare(self) -> None:
        """Everything is done once."""

    def solved(self) -> Matrices:
        p, role = self.problem, self.problem.roles[self.names[0]]
        grid = self.section.grids.of(role)
        if self.names[0] not in self.hessians:
            rounded = Rtn(grids=self.section.grids)
            return {name: rounded.quantize(p.weights[name], grid) for name in self.names}
        w = torch.stack([p.weights[name] for name in self.names]).to(p.runtime.device)
        hessians = torch.stack([self.hessians[name] for name in self.names])
        protected = (
            None if self.protected is None else torch.stack([self.protected[name] for name in self.names])
        )
        found = self.section.quantize_batch(w, grid, hessians, self.section.damping_of(role), protected)
        return dict(zip(self.names, found, strict=True))
