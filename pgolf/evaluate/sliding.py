"""Windows that slide over the stream.

Windows of `context` positions advance by `stride`; the first scores all its targets, every other one only its last
`stride`, the last window only what is left. Documents are islands inside a window: context never crosses a document
start. A window whose targets would all be scored already is left out (before PR 1218 the tail was scored twice).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pgolf.evaluate.mode import ROWS, Mode
from pgolf.evaluate.predictor import Extent, Windows
from pgolf.evaluate.schedule import Batch, Round, Step, cut
from pgolf.section import RuleBroken


class Sliding(Mode):
    """How deployed text is scored."""

    kind: Literal["sliding"] = "sliding"
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

    @property
    def described(self) -> str:
        return f"windows of {self.context}, stride {self.stride}"

    def plan(self, tokens: int) -> NDArray[np.int64]:
        """[windows, 3] rows (context_begin, score_begin, score_end) over a stream of `tokens` tokens.

        Targets are 1 .. tokens - 1. All windows but those of a stream shorter than `context` have the
        same length, so they batch.
        """
        return sliding_windows(tokens, self.context, self.stride)

    def rounds(self, extent: Extent, wanted: Sequence[int], ranks: int = 1) -> list[Round]:
        return stream_rounds(self.plan(extent.tokens), wanted)


def sliding_windows(tokens: int, context: int, stride: int) -> Windows:
    """Windows over a stream that advance by `stride`."""
    inputs = tokens - 1  # input i predicts target i + 1
    if inputs < 1:
        return np.zeros((0, 3), dtype=np.int64)
    first = min(context, inputs)
    begins = np.concatenate([[1], np.arange(first + 1, inputs + 1, stride)])
    ends = np.append(begins[1:], inputs + 1)
    return np.stack([np.maximum(ends - 1 - context, 0), begins, ends], axis=1)


def stream_rounds(windows: Windows, wanted: Sequence[int]) -> list[Round]:
    """Windows in rounds; within one, windows of equal lengths are asked for together."""
    if not len(windows):
        return [[]]
    ends = windows[:, 2] - 1
    edges = [0, *cut(ends, wanted)]
    return [
        [
            Batch((), [Step(part)], float((part[:, 2] - part[:, 0]).sum()))
            for part in _together(windows[begin:end])
        ]
        for begin, end in pairwise(edges)
    ]


def _together(windows: Windows) -> list[Windows]:
    lengths = windows[:, 2] - 1 - windows[:, 0]
    order = np.argsort(-lengths, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    return [windows[part[at : at + ROWS]] for part in parts for at in range(0, len(part), ROWS)]
