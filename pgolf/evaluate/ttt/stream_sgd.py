"""Full-parameter descent on the stream: every chunk is scored, then trained on (SGD: PR 461, 549, 1413, 1493).

After the windows of a chunk are scored, `epochs` passes over it (descent.py) at a rate that falls by a cosine over the
stream's chunks. The optimizer lives through the stream; the last chunk is not trained on.
"""

from typing import ClassVar, Literal

from pgolf.evaluate.neural import Neural
from pgolf.evaluate.predictor import Extent, Holding, Scored
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.evaluate.ttt.descent import Descent, DescentSection


class StreamSgd(DescentSection):
    """A chunk is what is scored between two trainings."""

    needs_documents: ClassVar[bool] = False
    by_lengths: ClassVar[list[str]] = ["lr"]  # it falls over all chunks, the stream's to come included
    kind: Literal["stream_sgd"] = "stream_sgd"

    def build(self, base: Neural) -> "StreamSgdPredictor":
        return StreamSgdPredictor(self, base)


class StreamSgdPredictor(Holding):
    def __init__(self, section: StreamSgd, base: Neural) -> None:
        super().__init__(base)
        self.section, self.learns = section, True
        self.descent = Descent(section, base)

    def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
        super().begin(extent, ranks)
        self.descent.begin(ranks)
        self.ends = extent.ending(self.boundaries(extent))
        self.chunks = len(self.ends | {len(extent.rounds) - 1})  # a boundary may fall into the last round
        self.done = 0

    def boundaries(self, extent: Extent) -> list[int]:
        return list(range(self.section.chunk_tokens, extent.tokens - 1, self.section.chunk_tokens))

    def learn(self, scored: Scored) -> None:
        super().learn(scored)
        self.descent.tell(scored)
        if scored.number in self.ends:
            lr = self.section.cosine(self.done, self.chunks)
            self.descent.chunk(self.descent.sequences(), lr)
            self.descent.told, self.done = [], self.done + 1
