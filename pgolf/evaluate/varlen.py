"""Documents cut into segments of at most `context` inputs, none seeing another (PR 1530's diagnostic).

One forward over everything and no overlap: cheap and document-isolated, but a segment begins without a context.
Unlike the original, which left out what did not fill its batches, every target is scored.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Extent, Windows
from pgolf.evaluate.schedule import Round
from pgolf.evaluate.sliding import stream_rounds


class Varlen(Mode):
    kind: Literal["varlen"] = "varlen"

    @property
    def described(self) -> str:
        return f"disjoint segments of documents, {self.context} at most"

    def rounds(self, extent: Extent, wanted: Sequence[int], ranks: int = 1) -> list[Round]:
        return stream_rounds(self.segments(extent), wanted)

    def segments(self, extent: Extent) -> Windows:
        """[segments, 3] windows, in stream order."""
        rows = [
            (at, at + 1, min(at + self.context, begin + length) + 1)
            for begin, length in zip(extent.starts.tolist(), extent.lengths.tolist(), strict=True)
            for at in range(begin, begin + length, self.context)
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 3)
