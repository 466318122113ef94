"""Training batches: an order of the stream, read row by row; the same global batch on any number of ranks.

A loader says where the rows of each global batch begin, from the seed and the shards alone. Every rank
computes the same order and reads its own share of the rows, so the batch, and with it the loss, does not
depend on the number of ranks, and nothing is sent between them. Which rank computes which row changes the
order of a sum and no more.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pgolf.data.batch import Batch
from pgolf.data.coprime_stride import CoprimeStride
from pgolf.data.packed import Packed
from pgolf.data.sequential import Sequential
from pgolf.data.shuffled_windows import ShuffledWindows
from pgolf.data.starts import document_starts
from pgolf.data.stream import Positions, Stream
from pgolf.errors import ConfigError

Loader = Annotated[ShuffledWindows | Sequential | CoprimeStride | Packed, Field(discriminator="kind")]


class Batches:
    """An endless, seeded sequence of global batches over the training shards of a token directory.

    Each iteration begins anew. Rows hold `loader.row_tokens(context)` tokens.

    Raises:
        ConfigError: the ranks cannot share the rows evenly, or the shards do not hold what a batch needs.
        DataError: the shards are missing or damaged.
    """

    def __init__(
        self,
        directory: Path,
        loader: Loader,
        context: int,
        rows: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if rows % world:
            raise ConfigError("the rows of a batch are shared evenly among the ranks",
                              f"{rows} rows on {world} ranks", "change train.batch_tokens")  # fmt: skip
        self.loader, self.rows, self.seed = loader, rows, seed
        self.row_tokens = loader.row_tokens(context)
        self.mine = slice(rank * rows // world, (rank + 1) * rows // world)
        self.stream = Stream(directory)
        self._order()  # refuses here what it would refuse at the first batch

    @property
    def tokens(self) -> int:
        """Of the training shards, all together."""
        return len(self.stream)

    def __iter__(self) -> Iterator[Batch]:
        for positions in self._order():
            whole = self.stream.read(positions[self.mine], self.row_tokens + 1)
            tokens = whole[:, :-1].contiguous()
            yield Batch(tokens, document_starts(tokens), whole[:, 1:].contiguous())

    def _order(self) -> Iterator[Positions]:
        return self.loader.batches(self.stream, self.row_tokens, self.rows, self.seed)


class Windows(Batches):
    """Shuffled windows of `context` tokens: what most of the library reads."""

    def __init__(
        self, directory: Path, context: int, rows: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        super().__init__(directory, ShuffledWindows(), context, rows, seed, rank, world)
