"""Binary: the sign of every weight times a float16 magnitude of its group.

    W_i = q_i alpha_g,   alpha_g = mean |w| of the group,   q = 1 if w >= 0 else -1

For networks that were trained this way (train.late_qat.kind=binary, the same group). One bit a weight buys half
as many weights again as ternary in the same bytes, and wants about ten times its steps: 1.1824 in ten minutes,
1.1239 after two hours, in the competition's binary entry.
"""

from typing import ClassVar, Literal

from pgolf.formats.grouped import Coder, binary
from pgolf.quantize.grouped import GroupedQuantizer


class Binary(GroupedQuantizer):
    BITS: ClassVar[float] = 1.0
    CODER: ClassVar[Coder] = staticmethod(binary)

    kind: Literal["binary"] = "binary"
