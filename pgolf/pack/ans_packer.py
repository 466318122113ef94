"""The entropy coder of weights: Gaussian tables by row and column, coded at their ideal length (pgolf.formats.ans)."""

from typing import Literal

from pgolf.formats.blob import Codec
from pgolf.pack.ans_coding import encode_arrays
from pgolf.section import Section


class AnsPacker(Section):
    kind: Literal["ans"] = "ans"

    def codec(self) -> Codec:
        return Codec("ans", lambda arrays, groups: encode_arrays(arrays))
