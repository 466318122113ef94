"""Document after document in chunks: the records' final protocol (PR 1530 and later).

Chunk c of a document scores its next `chunk` targets; its window ends where the chunk does and begins `context`
inputs before, or where the document does. The next document's BOS is a document's last target, so that each token
of the stream is scored once. Documents advance together, one chunk a step, and whatever adapts does so between a
document's chunks. Short documents may go in shorter chunks, which gives them more updates a token (PR 2014):
`short_chunks` ((256, 8), (2000, 24)) means chunks of 8 up to 256 targets, of 24 up to 2,000.

`order` matters where something is carried from round to round: `stream` is the order of the stream; `longest` takes
the longest documents first, as phased adaptation did in the records. That reorders what is carried, and the
certificate says so.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Extent
from pgolf.evaluate.schedule import Batch, Round, Step, cut, grouped
from pgolf.section import RuleBroken


class DocumentChunks(Mode):
    opens_documents: ClassVar[bool] = True
    kind: Literal["document_chunks"] = "document_chunks"
    chunk: int = Field(48, ge=1)  # targets a step scores of each document
    short_chunks: tuple[tuple[int, int], ...] = ()  # (targets of a document at most, its chunk)
    rows: int = Field(64, ge=1)  # documents that advance together at most
    order: Literal["stream", "longest"] = "stream"

    @model_validator(mode="after")
    def _chunks_fit(self) -> "DocumentChunks":
        widest = max([self.chunk, *(chunk for _, chunk in self.short_chunks)])
        if widest > self.context:
            raise RuleBroken(
                "evaluate.chunk is at most evaluate.context, or targets would lack their own document",
                f"chunk={widest}, context={self.context}",
                f"chunk={self.context}",
            )
        limits = [limit for limit, _ in self.short_chunks]
        if limits != sorted(set(limits)) or any(n < 1 for pair in self.short_chunks for n in pair):
            raise RuleBroken(
                "evaluate.short_chunks are pairs (targets at most, chunk) of rising limits",
                f"{self.short_chunks}",
                "[[256, 8], [2000, 24]]",
            )
        return self

    @property
    def by_lengths(self) -> list[str]:
        own = {"short_chunks": bool(self.short_chunks), "order": self.order == "longest" and self.carries}
        return [*(name for name, reads in own.items() if reads), *super().by_lengths]

    @property
    def described(self) -> str:
        return f"documents in chunks of {self.chunk}, windows of {self.context}"

    def chunk_of(self, targets: int) -> int:
        """The chunk in which a document of so many targets is scored."""
        return next((chunk for limit, chunk in self.short_chunks if targets <= limit), self.chunk)

    def order_of(self, extent: Extent) -> NDArray[np.int64]:
        lengths = extent.lengths
        return np.argsort(-lengths, kind="stable") if self.order == "longest" else np.arange(len(lengths))

    def rounds(self, extent: Extent, wanted: Sequence[int], ranks: int = 1) -> list[Round]:
        lengths, order = extent.lengths, self.order_of(extent)
        edges = [0, *cut(lengths[order].cumsum(), wanted)]
        return [self._round(extent, order[begin:end].tolist(), ranks) for begin, end in pairwise(edges)]

    def _round(self, extent: Extent, documents: list[int], ranks: int) -> Round:
        """Batches of documents; documents of one batch have one chunk size, so that their rows stay aligned."""
        lengths = extent.lengths
        documents = [d for d in documents if lengths[d]]
        found: Round = []
        for chunk in sorted({self.chunk_of(int(lengths[d])) for d in documents}):
            members = [d for d in documents if self.chunk_of(int(lengths[d])) == chunk]
            steps = [-(-int(lengths[d]) // chunk) for d in members]
            positions = [self._positions(int(lengths[d]), chunk) for d in members]
            for batch, cost in grouped(members, steps, positions, self.rows, ranks):
                found.append(Batch(tuple(batch), self._steps(extent, batch, chunk), cost))
        return sorted(found, key=lambda b: -b.cost)

    def _positions(self, targets: int, chunk: int) -> int:
        """Of all windows of a document."""
        ends = np.minimum(np.arange(chunk, targets + chunk, chunk), targets)
        return int(np.minimum(ends, self.context).sum())

    def _steps(self, extent: Extent, documents: list[int], chunk: int) -> list[Step]:
        starts, lengths = extent.starts[documents], extent.lengths[documents]
        steps = []
        for at in range(0, int(lengths.max()), chunk):
            slots = np.flatnonzero(lengths > at)
            begin = starts[slots] + 1 + at
            end = np.minimum(begin + chunk, starts[slots] + 1 + lengths[slots])
            context = np.maximum(starts[slots], end - 1 - self.context)
            ends = end == starts[slots] + 1 + lengths[slots]
            steps.append(
                Step(np.stack([context, begin, end], axis=1), tuple(slots.tolist()), tuple(ends.tolist()))
            )
        return steps
