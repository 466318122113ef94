"""What quantizers with a magnitude for every group of weights share: which matrices they take, and what that costs.

The matrices of blocks are grouped: those that training rounded the same way (pgolf.train.grouped_qat). Everything
else was trained in float, and rounding it this coarsely would ruin it: tables and small projections go on a grid
of steps or stay in float16, and so do gates.
"""

from pgolf.formats.grouped import Coder
from pgolf.formats.quantized import GroupedMatrix
from pgolf.model.roles import Role
from pgolf.quantize.grids import STEP_BITS
from pgolf.quantize.problem import Finish, Matrices, Problem
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip

GROUPED = (Role.ATTENTION, Role.MLP)
TABLES = SdClip(bits=8, clip_sigmas=20.0)


def quantized(
    problem: Problem, finish: Finish | None, coder: Coder, group: int, embedding: SdClip | None,
    gate: QuantGate | None,
) -> Matrices:  # fmt: skip
    """Every matrix by its role, in the network's order."""
    found: Matrices = {}
    for name, w in problem.weights.items():
        role = problem.roles[name]
        if role in GROUPED:
            codes, alpha = coder(w, group)
            found[name] = GroupedMatrix(codes.short(), alpha, group)
        elif role is Role.GATE and gate is not None:
            found[name] = gate.quantize(w)
        elif role.is_matrix and embedding is not None:
            found[name] = Rtn().quantize(w, embedding)
    return found if finish is None else finish(found, None)


def expected_bits(
    role: Role, rows: int, cols: int, bits: float, group: int, embedding: SdClip | None,
    gate: QuantGate | None,
) -> float:  # fmt: skip
    """`bits` a grouped weight and 16 a group; other roles by their grid, or 16 a weight."""
    count = rows * cols
    if role in GROUPED:
        return bits * count + 16.0 * -(-count // group)
    if role is Role.GATE:
        return gate.bits * count + STEP_BITS * rows if gate else 16.0 * count
    return embedding.entropy_bits * count + STEP_BITS * rows if embedding else 16.0 * count
