"""Token weights: the loss of each target times a weight that is known before the forward.

    tail            1, and `weight` from position `from_fraction` of the context on (PR 1369)
    frequency       min(c f_v^-power, limit), c such that the mean weight over the data is 1 before the limit
    complementary   1 - strength * p(target | token before it), p of a bigram model of the training data (PR 803)

The first asks for what only a long context can tell, the second for rare tokens, the third for what a table
of n-grams would not know; the third pays only where such a table helps at evaluation. Weights are not
normalized within a batch: the loss of a batch is the mean over its parts, however it is divided among ranks
and forwards. Counts come from blocks spread evenly over the training shards, the same on every rank.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pgolf.data.batch import Batch
from pgolf.data.starts import positions_in_segment
from pgolf.data.stream import Stream
from pgolf.section import Section

Weigher = Callable[[Batch], Float[Tensor, "rows context"]]
BLOCK_TOKENS = 65_536


class TailEmphasis(Section):
    kind: Literal["tail"] = "tail"
    from_fraction: float = Field(0.5, gt=0, lt=1)  # of the context, counted from the segment's start
    weight: float = Field(2.0, gt=0)

    def weigher(self, stream: Stream, vocab_size: int, context: int, device: str) -> Weigher:
        """Weights of a batch's targets."""

        def weigh(batch: Batch) -> Float[Tensor, "rows context"]:
            late = positions_in_segment(batch.starts) >= self.from_fraction * context
            return torch.where(late, self.weight, 1.0)

        return weigh


class FrequencyWeights(Section):
    kind: Literal["frequency"] = "frequency"
    power: float = Field(0.25, gt=0, le=1)
    limit: float = Field(4.0, ge=1)
    sample_tokens: int = Field(10_000_000, ge=1)

    def weigher(self, stream: Stream, vocab_size: int, context: int, device: str) -> Weigher:
        """Weights of a batch's targets."""
        table = torch.from_numpy(self.table(stream, vocab_size)).to(device)
        return lambda batch: table[batch.targets]

    def table(self, stream: Stream, vocab_size: int) -> NDArray[np.float32]:
        """The weight of every token of the vocabulary; one that was not seen counts as seen once."""
        counts = np.ones(vocab_size)
        for block in sampled(stream, self.sample_tokens):
            counts += np.bincount(block, minlength=vocab_size)
        share = counts / counts.sum()
        weights = share**-self.power
        return np.minimum(weights / (share * weights).sum(), self.limit).astype(np.float32)


class Complementary(Section):
    kind: Literal["complementary"] = "complementary"
    strength: float = Field(0.5, gt=0, le=1)
    sample_tokens: int = Field(10_000_000, ge=1)

    def weigher(self, stream: Stream, vocab_size: int, context: int, device: str) -> Weigher:
        """Weights of a batch's targets."""
        table = torch.from_numpy(1 - self.strength * self.bigrams(stream, vocab_size)).to(device)
        return lambda batch: table[batch.tokens, batch.targets].float()

    def bigrams(self, stream: Stream, vocab_size: int) -> NDArray[np.float16]:
        """p(next | token) as counted, [vocab, vocab]; 0 where nothing was."""
        counts = np.zeros(vocab_size * vocab_size, dtype=np.float32)
        for block in sampled(stream, self.sample_tokens):
            pairs, times = np.unique(block[:-1] * vocab_size + block[1:], return_counts=True)
            counts[pairs] += times
        table = counts.reshape(vocab_size, vocab_size)
        return (table / table.sum(axis=1, keepdims=True).clip(min=1)).astype(np.float16)


TokenWeighting = Annotated[TailEmphasis | FrequencyWeights | Complementary, Field(discriminator="kind")]


def sampled(stream: Stream, tokens: int) -> list[NDArray[np.int64]]:
    """Blocks of the stream, evenly spread over it, of about so many tokens together (all, if it has less)."""
    size = min(BLOCK_TOKENS, tokens, len(stream))
    blocks = max(min(tokens, len(stream)) // size, 1)
    begins = np.linspace(0, len(stream) - size, blocks).astype(np.int64)
    return [block.numpy() for block in stream.read(begins, size)]
