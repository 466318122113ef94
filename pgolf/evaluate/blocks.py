"""Disjoint blocks of the stream: the cheapest mode, in which a target sees half a context on average."""

from collections.abc import Sequence
from typing import Literal

from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Extent
from pgolf.evaluate.schedule import Round
from pgolf.evaluate.sliding import sliding_windows, stream_rounds


class Blocks(Mode):
    kind: Literal["blocks"] = "blocks"

    @property
    def described(self) -> str:
        return f"disjoint blocks of {self.context}"

    def rounds(self, extent: Extent, wanted: Sequence[int], ranks: int = 1) -> list[Round]:
        return stream_rounds(sliding_windows(extent.tokens, self.context, self.context), wanted)
