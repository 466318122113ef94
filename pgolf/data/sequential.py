"""Sequential: the stream in its own order, rows cut at a fixed length.

A global batch is one contiguous chunk of rows x S tokens and the token after it; its rows follow one
another, whatever documents they cut. The next batch goes on where this one ended, so a token is an input
once an epoch. A chunk that the end of the stream would cut short is left out and the stream begins again.
There is no randomness: neighbouring rows are of the same documents, and every seed sees the same order
(the first baselines, to PR 1019).
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from pgolf.data.stream import Positions, Stream
from pgolf.errors import ConfigError
from pgolf.section import Section


class Sequential(Section):
    kind: Literal["sequential"] = "sequential"

    def row_tokens(self, context: int) -> int:
        """A row is one window."""
        return context

    def batches(self, stream: Stream, row_tokens: int, rows: int, seed: int) -> Iterator[Positions]:
        """Endless: where the rows of each global batch begin. `seed` decides nothing.

        Raises:
            ConfigError: the training shards together hold no batch.
        """
        if len(stream) <= rows * row_tokens:
            raise ConfigError("the training shards hold more than one batch",
                              f"{len(stream)} tokens, train.batch_tokens={rows * row_tokens}",
                              "use a smaller train.batch_tokens")  # fmt: skip
        return self._batches(len(stream), row_tokens, rows)

    def _batches(self, tokens: int, row_tokens: int, rows: int) -> Iterator[Positions]:
        chunk = np.arange(rows, dtype=np.int64) * row_tokens
        while True:
            for at in range(0, tokens - rows * row_tokens, rows * row_tokens):
                yield at + chunk
