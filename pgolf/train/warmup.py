"""Warm-up steps: compile every graph of the run before the clock starts, then take everything back.

For each state that the network will be in (passes of a recurrence, late rounding) and each size of attention
layout that its batches may have, one forward and backward; for each state also `steps` real optimizer steps.
Then weights and optimizer are restored exactly, the loader begins again and the clock starts. The rules allow
it because nothing of it stays. With `keep_momentum` Muon's momentum does stay, as it did by accident in the
bank stacks (PR 1530 on), where it shaped about the first 50 steps.

Layout sizes are those of batches read ahead, and a margin: a size that was not seen here would be compiled
on the clock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from pgolf.data.batch import Batch
from pgolf.kernels.attention import Layout
from pgolf.kernels.documents import BUCKET
from pgolf.optim.optimizer import Optimizer
from pgolf.section import Section
from pgolf.train.gradients import Gradients
from pgolf.train.switches import Switches

AHEAD = 32  # batches read to see how many documents a part holds
MARGIN = 1  # sizes of layout, to either side of those seen
COMPILED = 2  # steps where a run is compiled and says nothing


class Warmup(Section):
    steps: int = Field(20, ge=1)  # optimizer steps in every state of the network
    keep_momentum: bool = False


def warm_up(
    warmup: Warmup, gradients: Gradients, optimizer: Optimizer, switches: Switches, batches: Iterable[Batch],
    contexts: tuple[int, ...], every_size: bool = False,
) -> None:  # fmt: skip
    """Run every state of the network, then put everything back.

    `contexts` are the caps on a segment that the run will have; `every_size` of layout: for a compiled run.
    """
    seen = list(islice(batches, AHEAD))
    before = optimizer.snapshot()
    for progress in switches.at:
        switches.set(progress, step=0)
        for part in sizes(seen, gradients, contexts) if every_size else ():
            gradients.add(part, max(contexts))
        for i in range(warmup.steps):
            gradients.add(seen[i % len(seen)], contexts[0])
            optimizer.step(progress, 1e-9)
    optimizer.restore(before, warmup.keep_momentum)
    switches.set(0.0, step=0)


def sizes(seen: list[Batch], gradients: Gradients, contexts: tuple[int, ...]) -> Iterator[Batch]:
    """For every shape of a part, and every size of layout that it may have, a batch that has it."""
    longest, known = max(contexts), set()
    for part in seen[0].parts(gradients.rows_at_once):
        rows, time = part.tokens.shape
        counts = [
            int(other.capped(context).starts.sum())
            for batch in seen
            for other in batch.parts(gradients.rows_at_once)
            if len(other.tokens) == rows
            for context in contexts
        ]
        least = -(-time // longest)  # documents a row: with fewer one would be longer than that
        for size in range(_bucket(min(counts)) - MARGIN, _bucket(max(counts)) + MARGIN + 1):
            documents = min(size * BUCKET - 1, rows * time)
            if documents >= rows * least:
                made = replace(part, starts=spread(rows, time, documents))
                _, layout = next(gradients.parts(made, longest))
                if (shape := (rows, shapes(layout))) not in known:
                    known.add(shape)
                    yield made


def spread(rows: int, time: int, documents: int) -> Bool[Tensor, "rows time"]:
    """Starts of so many documents (one a row at least), evenly spread over the rows and within each."""
    starts = torch.zeros(rows, time, dtype=torch.bool)
    for row, marks in enumerate(starts):
        own = documents // rows + (row < documents % rows)
        marks[torch.arange(own) * time // own] = True
    return starts


def shapes(layout: Layout) -> tuple[torch.Size, ...]:
    """What of a layout a compiled graph is made for."""
    return tuple(x.shape for x in layout if isinstance(x, Tensor))


def _bucket(documents: int) -> int:
    return -(-(documents + 1) // BUCKET)
