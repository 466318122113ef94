"""Ternary: -1, 0 or 1 times a float16 magnitude for every group of consecutive weights (PR 640).

    W_i = q_i alpha_g / mean |q|_g,   alpha_g = mean |w| of the group,   q = clamp(round(w / alpha), -1, 1)

For networks that were trained this way (train.late_qat.kind=ternary, the same group): then nothing is lost here.
Of a Gaussian group 31 % are zeros, which makes 1.58 bits a weight, what three equally likely digits cost: there is
nothing left for an entropy coder, and five digits in a byte (pgolf.formats.packed_digits) are within 1 % of it.
"""

from typing import Literal

from pydantic import Field

from pgolf.formats.grouped import ternary
from pgolf.formats.quantized import MOST_GROUP
from pgolf.model.roles import Role
from pgolf.quantize.grouped import TABLES, expected_bits, quantized
from pgolf.quantize.problem import Finish, Matrices, Problem, QuantizerSection
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.sd_clip import SdClip

BITS = 1.58  # a weight: entropy of Gaussian weights' codes


class Ternary(QuantizerSection):
    kind: Literal["ternary"] = "ternary"
    group: int = Field(128, ge=1, le=MOST_GROUP)  # consecutive weights with one magnitude
    embedding: SdClip | None = TABLES  # of tables and small projections; None: float16
    gate: QuantGate | None = None  # None: gate matrices stay in float16

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        return expected_bits(role, rows, cols, BITS, self.group, self.embedding, self.gate)

    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        return quantized(problem, finish, ternary, self.group, self.embedding, self.gate)
