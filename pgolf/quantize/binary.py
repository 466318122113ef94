"""Binary: the sign of every weight times a float16 magnitude of its group.

    W_i = q_i alpha_g,   alpha_g = mean |w| of the group,   q = 1 if w >= 0 else -1

For networks that were trained this way (train.late_qat.kind=binary, the same group). One bit a weight buys half
as many weights again as ternary in the same bytes, and wants about ten times its steps: 1.1824 in ten minutes,
1.1239 after two hours, in the competition's binary entry.
"""

from typing import Literal

from pydantic import Field

from pgolf.formats.grouped import binary
from pgolf.formats.quantized import MOST_GROUP
from pgolf.model.roles import Role
from pgolf.quantize.grouped import TABLES, expected_bits, quantized
from pgolf.quantize.problem import Finish, Matrices, Problem, QuantizerSection
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.sd_clip import SdClip

BITS = 1.0  # a weight


class Binary(QuantizerSection):
    kind: Literal["binary"] = "binary"
    group: int = Field(128, ge=1, le=MOST_GROUP)  # consecutive weights with one magnitude
    embedding: SdClip | None = TABLES  # of tables and small projections; None: float16
    gate: QuantGate | None = None  # None: gate matrices stay in float16

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        return expected_bits(role, rows, cols, BITS, self.group, self.embedding, self.gate)

    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        return quantized(problem, finish, binary, self.group, self.embedding, self.gate)
