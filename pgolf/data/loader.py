"""Training windows: seeded, memory-mapped, the same global batch on any number of ranks.

The stream of a split is cut into windows of `context` tokens at a random phase, the windows are
visited in a random permutation, and both are drawn anew each epoch from (seed, epoch). A window may
begin inside a document and hold several; `starts` marks where each begins, and everything that looks
back stops there. Every rank draws the same permutation and takes its own rows, so the batch, and with
it the loss, does not depend on the world size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from pgolf.errors import ConfigError
from pgolf.formats.shards import BOS, read_shard, shards_of


@dataclass(frozen=True)
class Batch:
    """Inputs, document starts and next-token targets, one row a window."""

    tokens: Int[Tensor, "rows context"]
    starts: Bool[Tensor, "rows context"]
    targets: Int[Tensor, "rows context"]

    def to(self, device: str) -> "Batch":
        return Batch(self.tokens.to(device), self.starts.to(device), self.targets.to(device))


def document_starts(tokens: Int[Tensor, "*rows context"]) -> Bool[Tensor, "*rows context"]:
    """True where a document begins; the first position of a row always is a beginning."""
    starts = tokens == BOS
    starts[..., 0] = True
    return starts


class Windows:
    """An endless, seeded sequence of global batches over the training shards of a token directory."""

    def __init__(
        self, directory: Path, context: int, rows: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        if rows % world:
            raise ConfigError("the rows of a batch are shared evenly among the ranks",
                              f"{rows} rows on {world} ranks", "change train.batch_tokens")  # fmt: skip
        self.shards = [read_shard(f) for f in shards_of(directory, "train")]
        self.context, self.rows, self.seed = context, rows, seed
        self.mine = slice(rank * rows // world, (rank + 1) * rows // world)
        self.tokens = sum(len(s) for s in self.shards)
        if not any(len(s) > context for s in self.shards):
            raise ConfigError("a training shard is longer than one window", f"train.context={context}",
                              "use a shorter train.context")  # fmt: skip

        self._first = self._epoch(0)  # here, so that a loop's clock does not pay for it

    def __iter__(self) -> Iterator[Batch]:
        pending, epoch = self._first, 0
        while True:
            while len(pending) < self.rows:
                epoch += 1
                pending = np.concatenate([pending, self._epoch(epoch)])
            chosen, pending = pending[: self.rows], pending[self.rows :]
            yield self._batch(chosen[self.mine])

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        """[windows, 2] rows (shard, offset) of one pass, in a random order."""
        rng = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        passes = []
        for i, shard in enumerate(self.shards):
            phase = int(rng.integers(0, min(self.context, max(len(shard) - self.context, 1))))
            offsets = np.arange(phase, len(shard) - self.context, self.context, dtype=np.int64)
            passes.append(np.stack([np.full_like(offsets, i), offsets], axis=1))
        windows = np.concatenate(passes)
        return windows[rng.permutation(len(windows))]

    def _batch(self, windows: NDArray[np.int64]) -> Batch:
        rows = np.stack([self.shards[i][at : at + self.context + 1] for i, at in windows]).astype(np.int64)
        whole = torch.from_numpy(rows)
        tokens = whole[:, :-1].contiguous()
        return Batch(tokens, document_starts(tokens), whole[:, 1:].contiguous())
