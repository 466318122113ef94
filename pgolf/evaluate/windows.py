"""Which positions a window sees and which targets it scores.

Sliding: windows of `context` positions advance by `stride`; the first scores all its targets, every
other one only its last `stride`, the last window only what is left. Stride equal to context gives
disjoint blocks. Documents are islands inside a window: context never crosses a document start.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pgolf.section import RuleBroken, Section


class Sliding(Section):
    """How deployed text is scored."""

    context: int = Field(1024, ge=2)  # positions a window sees
    stride: int = Field(64, ge=1)  # targets a window scores

    @model_validator(mode="after")
    def _overlaps(self) -> "Sliding":
        if self.stride > self.context:
            raise RuleBroken(
                "evaluate.stride is at most evaluate.context, or targets would be skipped",
                f"stride={self.stride}, context={self.context}",
                f"stride={self.context}",
            )
        return self

    def plan(self, tokens: int) -> NDArray[np.int64]:
        """[windows, 3] rows (context_begin, score_begin, score_end) over a stream of `tokens` tokens.

        Targets are 1 .. tokens - 1. All windows but those of a stream shorter than `context` have the
        same length, so they batch.
        """
        inputs = tokens - 1  # input i predicts target i + 1
        if inputs < 1:
            return np.zeros((0, 3), dtype=np.int64)
        first = min(self.context, inputs)
        rows = [(0, 1, first + 1)]
        while rows[-1][2] <= inputs:
            begin = rows[-1][2]
            end = min(begin + self.stride, inputs + 1)
            rows.append((max(end - 1 - self.context, 0), begin, end))
        return np.array(rows, dtype=np.int64)
