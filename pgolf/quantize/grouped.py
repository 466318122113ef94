"""What quantizers with a magnitude for every group of weights share: which matrices they take, and what that costs.

The matrices of blocks are grouped: those that training rounded the same way (pgolf.train.grouped_qat). Everything
else was trained in float, and rounding it this coarsely would ruin it: tables and small projections go on a grid
of steps or stay in float16, and so do gates.
"""

from typing import ClassVar

from pydantic import Field

from pgolf.formats.grouped import Coder
from pgolf.formats.quantized import MOST_GROUP, GroupedMatrix
from pgolf.model.roles import Role
from pgolf.quantize.grids import STEP_BITS
from pgolf.quantize.problem import Finish, Matrices, Problem, QuantizerSection
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip

GROUPED = (Role.ATTENTION, Role.MLP)


class GroupedQuantizer(QuantizerSection):
    """A subclass says how a group is coded, and what a weight of it costs."""

    BITS: ClassVar[float]  # a weight
    CODER: ClassVar[Coder]

    group: int = Field(128, ge=1, le=MOST_GROUP)  # consecutive weights with one magnitude
    embedding: SdClip | None = SdClip(bits=8, clip_sigmas=20.0)  # tables, small projections; None: float16
    gate: QuantGate | None = None  # None: gate matrices stay in float16

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        """BITS a grouped weight and 16 a group; other roles by their grid, or 16 a weight."""
        count = rows * cols
        if role in GROUPED:
            return self.BITS * count + 16.0 * -(-count // self.group)
        if role is Role.GATE:
            return self.gate.bits * count + STEP_BITS * rows if self.gate else 16.0 * count
        return self.embedding.entropy_bits * count + STEP_BITS * rows if self.embedding else 16.0 * count

    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        found: Matrices = {}
        for name, w in problem.weights.items():
            role = problem.roles[name]
            if role in GROUPED:
                codes, alpha = type(self).CODER(w, self.group)
                found[name] = GroupedMatrix(codes.short(), alpha, self.group)
            elif role is Role.GATE and self.gate is not None:
                found[name] = self.gate.quantize(w)
            elif role.is_matrix and self.embedding is not None:
                found[name] = Rtn().quantize(w, self.embedding)
        return found if finish is None else finish(found, None)
