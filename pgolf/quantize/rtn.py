"""Round-to-nearest: every weight to the closest point of its row's grid, no data needed.

The baseline that GPTQ has to beat on the same grid.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from pgolf.formats.quantized import QuantizedMatrix, steps_of
from pgolf.model.roles import Role
from pgolf.quantize.grids import Grid, RoleGrids
from pgolf.quantize.problem import Finish, Matrices, Problem, QuantizerSection


class Rtn(QuantizerSection):
    kind: Literal["rtn"] = "rtn"
    grids: RoleGrids = RoleGrids()

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        return self.grids.expected_bits(role, rows, cols)

    def quantize(self, w: Float[Tensor, "rows cols"], grid: Grid) -> QuantizedMatrix:
        """Quantize one matrix."""
        row = grid.row_codes(w)
        return QuantizedMatrix(grid.codes(w.float(), steps_of(row).unsqueeze(1)).short(), row)

    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        found = self.grids.gates(problem.weights, problem.roles)
        for name, w in problem.weights.items():
            if problem.roles[name].is_matrix:
                found[name] = self.quantize(w, self.grids.of(problem.roles[name]))
        ordered = {name: found[name] for name in problem.weights if name in found}
        return ordered if finish is None else finish(ordered, None)
