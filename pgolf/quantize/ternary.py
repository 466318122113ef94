"""Ternary: -1, 0 or 1 times a float16 magnitude for every group of consecutive weights (PR 640).

    W_i = q_i alpha_g / mean |q|_g,   alpha_g = mean |w| of the group,   q = clamp(round(w / alpha), -1, 1)

For networks that were trained this way (train.late_qat.kind=ternary, the same group): then nothing is lost here.
Of a Gaussian group 31 % are zeros, which makes 1.58 bits a weight, what three equally likely digits cost: there is
nothing left for an entropy coder, and five digits in a byte (pgolf.formats.packed_digits) are within 1 % of it.
"""

from typing import ClassVar, Literal

from pgolf.formats.grouped import Coder, ternary
from pgolf.quantize.grouped import GroupedQuantizer


class Ternary(GroupedQuantizer):
    BITS: ClassVar[float] = 1.58  # entropy of Gaussian weights' codes
    CODER: ClassVar[Coder] = staticmethod(ternary)

    kind: Literal["ternary"] = "ternary"
