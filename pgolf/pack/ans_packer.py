"""The entropy coder of weights: Gaussian tables by row and column, coded at their ideal length (pgolf.formats.ans)."""

from typing import ClassVar, Literal

from pgolf.formats.blob import Codec
from pgolf.pack.ans_coding import encode_arrays
from pgolf.pack.cost import Cost
from pgolf.section import Section


class AnsPacker(Section):
    COST: ClassVar[Cost] = Cost(1.0, 0.5)
    kind: Literal["ans"] = "ans"

    def codec(self) -> Codec:
        return Codec("ans", lambda arrays, groups: encode_arrays(arrays))
