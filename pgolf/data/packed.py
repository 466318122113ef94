"""Packed documents: long rows of whole text, in order, attention cut at document starts.

    span = rows (n + 1);   row j of a batch reads tokens [at + j (n + 1), at + (j + 1) (n + 1)),   at += span

`at` begins at a shard's first document; a tail shorter than a span is left out and the next shard follows.
A row is n inputs and their n targets, so one token in n + 1 is a target alone. Nothing is cut at the context
length: documents lie one behind the other, the starts of a row are where attention is cut
(pgolf.data.starts caps what is longer than the context), and no position is wasted on padding. Only the
document that a row breaks into loses its beginning.

This is the fastest loader, and it draws nothing at random: the order of the data is the same for every seed,
so the spread over seeds leaves it out (PR 1530 to 1855). There one row is a rank's share of a step, 98,304
tokens; here its length is given, so that the batch does not change with the number of ranks.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from pgolf.data.stream import Positions, Stream
from pgolf.errors import ConfigError, DataError
from pgolf.formats.shards import BOS, Tokens
from pgolf.section import Section

LOOK_TOKENS = 1 << 16  # read at once in search of a document's start


class Packed(Section):
    kind: Literal["packed"] = "packed"
    tokens_per_row: int = Field(98_304, ge=2)

    def row_tokens(self, context: int) -> int:
        """Long rows; the context is how far back a position sees in them."""
        return self.tokens_per_row

    def batches(self, stream: Stream, row_tokens: int, rows: int, seed: int) -> Iterator[Positions]:
        """Endless: where the rows of each global batch begin. `seed` decides nothing.

        Raises:
            ConfigError: no shard holds a batch.
            DataError: a shard has no document start.
        """
        firsts = [_first_document(shard) for shard in stream.shards]
        span = rows * (row_tokens + 1)
        longest = max(len(s) - at for s, at in zip(stream.shards, firsts, strict=True))
        if longest < span:
            raise ConfigError("a training shard holds a batch of packed rows",
                              f"the longest has {longest} tokens of documents, a batch {span}",
                              "use a smaller train.batch_tokens or train.loader.tokens_per_row")  # fmt: skip
        return self._batches(stream, firsts, row_tokens, rows)

    def _batches(self, stream: Stream, firsts: list[int], row_tokens: int, rows: int) -> Iterator[Positions]:
        offsets = np.arange(rows, dtype=np.int64) * (row_tokens + 1)
        span = rows * (row_tokens + 1)
        while True:
            for begin, shard, first in zip(stream.begins, stream.shards, firsts, strict=False):
                for at in range(first, len(shard) - span + 1, span):
                    yield begin + at + offsets


def _first_document(shard: Tokens) -> int:
    for at in range(0, len(shard), LOOK_TOKENS):
        found = np.flatnonzero(shard[at : at + LOOK_TOKENS] == BOS)
        if len(found):
            return at + int(found[0])
    raise DataError("a training shard has a document start", f"{len(shard)} tokens, none of them is {BOS}",
                    "build the shards again")  # fmt: skip
