"""Shuffled windows: every window of an epoch once, in a random order.

Each shard is cut into windows of one row at a random phase; the windows of all shards are visited in one
random permutation. Phase and permutation are drawn anew each epoch from (seed, epoch). A window may begin
inside a document and hold several. Batches mix the whole data set, so the gradient noise is that of
independent windows (the record stacks of PR 1394 to 1514 shuffled shard by shard, with equal quality).
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from pgolf.data.stream import Positions, Stream
from pgolf.errors import ConfigError
from pgolf.section import Section


class ShuffledWindows(Section):
    kind: Literal["shuffled_windows"] = "shuffled_windows"

    def row_tokens(self, context: int) -> int:
        """A row is one window."""
        return context

    def batches(self, stream: Stream, row_tokens: int, rows: int, seed: int) -> Iterator[Positions]:
        """Endless: where the rows of each global batch begin.

        Raises:
            ConfigError: no shard holds a window and its last target.
        """
        check_windows(stream, row_tokens)
        return self._batches(stream, row_tokens, rows, seed)

    def _batches(self, stream: Stream, row_tokens: int, rows: int, seed: int) -> Iterator[Positions]:
        pending, epoch = _epoch(stream, row_tokens, seed, 0), 0
        while True:
            while len(pending) < rows:
                epoch += 1
                pending = np.concatenate([pending, _epoch(stream, row_tokens, seed, epoch)])
            chosen, pending = pending[:rows], pending[rows:]
            yield chosen


def check_windows(stream: Stream, row_tokens: int) -> None:
    """Raises ConfigError if no shard holds a window and its last target."""
    if not any(len(s) > row_tokens for s in stream.shards):
        raise ConfigError("a training shard is longer than one window", f"train.context={row_tokens}",
                          "use a shorter train.context")  # fmt: skip


def _epoch(stream: Stream, row_tokens: int, seed: int, epoch: int) -> Positions:
    """The windows of one pass, in a random order."""
    rng = np.random.Generator(np.random.PCG64([seed, epoch]))
    passes = []
    for begin, shard in zip(stream.begins, stream.shards, strict=False):
        phase = int(rng.integers(0, min(row_tokens, max(len(shard) - row_tokens, 1))))
        passes.append(begin + np.arange(phase, len(shard) - row_tokens, row_tokens, dtype=np.int64))
    windows = np.concatenate(passes)
    return windows[rng.permutation(len(windows))]
