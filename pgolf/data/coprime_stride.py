"""Coprime stride: every shard walked in strides coprime with its number of blocks, many shards in a batch.

    n_s = floor((N_s - 1 - phase_s) / S);   block j of shard s:  phase_s + ((start_s + j stride_s) mod n_s) S

Phase, start and stride are drawn per shard and cycle; since gcd(stride, n) = 1 the cycle visits each block
once, and neighbours in the text are far apart in time without a permutation in memory. A batch draws on
`mix` shards, weighted by remaining_s^power; mix grows and power falls over the first `ramp_steps` steps
(pi = min(step / ramp_steps, 1)). Each chosen shard gives one row, the rest are multinomial by weight; rows
are shuffled inside a shard and interleaved: one of each shard that has any left, in random order, again and
again (PR 726, 1060, 1218).

The lineage seeds its generator with file paths, so the order of its data depends on where they are mounted,
and its number of shards with the number of ranks. Here the generator is of the seed and the shard's place in
the sorted list, and the defaults are the lineage's values at its eight ranks.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pgolf.data.shuffled_windows import check_windows
from pgolf.data.stream import Positions, Stream
from pgolf.section import Section

MIXING, WALKING = 0, 1  # the two kinds of draws, kept apart: of the batches, and of the shards


class CoprimeStride(Section):
    kind: Literal["coprime_stride"] = "coprime_stride"
    shards_at_start: int = Field(8, ge=1)  # drawn on by a batch, at the first step
    shards_at_end: int = Field(64, ge=1)  # and from ramp_steps on
    power_at_start: float = Field(0.9, ge=0, le=2)  # of the blocks that a shard has left, in its weight
    power_at_end: float = Field(0.5, ge=0, le=2)
    ramp_steps: int = Field(1800, ge=1)

    def row_tokens(self, context: int) -> int:
        """A row is one block."""
        return context

    def batches(self, stream: Stream, row_tokens: int, rows: int, seed: int) -> Iterator[Positions]:
        """Endless: where the rows of each global batch begin.

        Raises:
            ConfigError: no shard holds a block and its last target.
        """
        check_windows(stream, row_tokens)
        return self._batches(stream, row_tokens, rows, seed)

    def _batches(self, stream: Stream, row_tokens: int, rows: int, seed: int) -> Iterator[Positions]:
        walks = [
            Walk(int(begin), len(shard), row_tokens, seed, i)
            for i, (begin, shard) in enumerate(zip(stream.begins, stream.shards, strict=False))
            if len(shard) > row_tokens
        ]
        rng = np.random.Generator(np.random.PCG64([seed, MIXING]))
        step = 0
        while True:
            counts = self._counts(np.array([w.remaining for w in walks]), rows, step, rng)
            drawn = [[walk.next() for _ in range(n)] for walk, n in zip(walks, counts, strict=True)]
            for blocks in drawn:
                rng.shuffle(blocks)
            yield _interleaved(drawn, rng)
            step += 1

    def _counts(
        self, remaining: NDArray[np.int64], rows: int, step: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """How many of a batch's rows each shard gives."""
        ramp = min(step / self.ramp_steps, 1.0)
        power = self.power_at_start + ramp * (self.power_at_end - self.power_at_start)
        most = min(len(remaining), rows)
        low, high = min(self.shards_at_start, most), min(self.shards_at_end, most)
        mix = round(low + ramp * (high - low))
        weights = np.maximum(remaining, 1).astype(np.float64) ** power
        chosen = rng.choice(len(remaining), size=mix, replace=False, p=weights / weights.sum())
        counts = np.zeros(len(remaining), dtype=np.int64)
        of_chosen = weights[chosen] / weights[chosen].sum()
        counts[chosen] = 1 + rng.multinomial(rows - mix, of_chosen)
        return counts


class Walk:
    """One shard's blocks, a cycle after the other; each cycle with its own phase, start and stride."""

    def __init__(self, begin: int, tokens: int, row_tokens: int, seed: int, shard: int) -> None:
        self.begin, self.tokens, self.row_tokens = begin, tokens, row_tokens
        self.seed, self.shard, self.cycle = seed, shard, -1
        self._draw()

    def _draw(self) -> None:
        self.cycle += 1
        rng = np.random.Generator(np.random.PCG64([self.seed, WALKING, self.shard, self.cycle]))
        size = self.row_tokens
        self.phase = int(rng.integers(0, min(size - 1, self.tokens - size - 1) + 1))
        self.blocks = (self.tokens - 1 - self.phase) // size
        self.start = int(rng.integers(0, self.blocks))
        strides = np.arange(1, max(self.blocks, 2))
        self.stride = int(rng.choice(strides[np.gcd(strides, self.blocks) == 1]))
        self.visited = 0

    @property
    def remaining(self) -> int:
        return self.blocks - self.visited

    def next(self) -> int:
        """The position of the next block."""
        if not self.remaining:
            self._draw()
        block = (self.start + self.visited * self.stride) % self.blocks
        self.visited += 1
        return self.begin + self.phase + block * self.row_tokens


def _interleaved(drawn: list[list[int]], rng: np.random.Generator) -> Positions:
    rest = [blocks for blocks in drawn if blocks]
    order: list[int] = []
    while rest:
        order += [rest[i].pop() for i in rng.permutation(len(rest))]
        rest = [blocks for blocks in rest if blocks]
    return np.array(order, dtype=np.int64)
