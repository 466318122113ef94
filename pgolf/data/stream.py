"""The training shards of a token directory as one memory-mapped stream.

A position counts tokens from the beginning of the first shard; a loader is an order of positions, and
reading a row touches the pages it lies on and no others.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from pgolf.errors import DataError
from pgolf.formats.shards import Tokens, read_shard, shards_of

Positions = NDArray[np.int64]


class Stream:
    """Raises DataError if there is no training shard, or one is damaged."""

    def __init__(self, directory: Path) -> None:
        self.shards: list[Tokens] = [read_shard(f) for f in shards_of(directory, "train")]
        if not self.shards:
            raise DataError("the train split has a shard", str(directory), "build the shards again")
        self.begins = np.cumsum(
            [0, *(len(s) for s in self.shards)], dtype=np.int64
        )  # of each shard, and the end

    def __len__(self) -> int:
        return int(self.begins[-1])

    def read(self, positions: Positions, length: int) -> Int[Tensor, "rows length"]:
        """Rows of `length` tokens from these positions on; a row may run from one shard into the next."""
        rows = torch.empty(len(positions), length, dtype=torch.int64)
        for row, at in zip(rows.numpy(), positions.tolist(), strict=True):
            self._copy(row, at)
        return rows

    def _copy(self, into: NDArray[np.int64], at: int) -> None:
        shard = int(np.searchsorted(self.begins, at, side="right")) - 1
        done = 0
        while done < len(into):
            part = self.shards[shard][at + done - int(self.begins[shard]) :][: len(into) - done]
            into[done : done + len(part)] = part
            done, shard = done + len(part), shard + 1
