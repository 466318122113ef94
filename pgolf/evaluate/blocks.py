"""Disjoint blocks of the stream: the cheapest mode, in which a target sees half a context on average."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Extent
from pgolf.evaluate.schedule import Round
from pgolf.evaluate.sliding import stream_rounds


class Blocks(Mode):
    kind: Literal["blocks"] = "blocks"

    @property
    def described(self) -> str:
        return f"disjoint blocks of {self.context}"

    def rounds(self, extent: Extent, wanted: Sequence[int], ranks: int = 1) -> list[Round]:
        begins = np.arange(0, extent.tokens - 1, self.context)
        ends = np.minimum(begins + self.context, extent.tokens - 1) + 1
        return stream_rounds(np.stack([begins, begins + 1, ends], axis=1), wanted)
