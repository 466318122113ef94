"""Gradients of a batch's mean loss: forward and backward in parts, compiled on request.

    gradient = sum over parts of (rows of the part / rows) gradient of the part's mean loss

Rows beyond what fits at once are accumulated; a part counts by its rows, so the parts' sizes decide nothing.
The compiled region is loss and backward, whole (no graph breaks) and with fixed shapes. What depends on the
data's documents, the attention layout, is prepared outside of it from starts that are still on the CPU:
nothing here waits for a GPU. Whatever switches during a run (passes of a recurrence, late rounding) is an
attribute that the compiler guards on, so each state is a graph of its own, made once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from pgolf.data.batch import Batch
from pgolf.kernels.attention import Layout
from pgolf.model.gpt import Gpt
from pgolf.train.mtp import MtpHeads
from pgolf.train.objective import Loss, Objective, loss
from pgolf.train.token_weighting import Weigher

GRAPHS = 256  # of one region, at most: states of the network times shapes of the layout
BACKEND = "inductor"
Region = Callable[[Batch, Layout], Loss]


class Gradients:
    """Computes and accumulates; `longest` is the context that no segment exceeds during the run."""

    def __init__(
        self, network: Gpt, heads: MtpHeads | None, objective: Objective, weigher: Weigher | None,
        device: str, rows_at_once: int, compiled: bool = False, longest: int | None = None,
    ) -> None:  # fmt: skip
        self.network, self.weigher, self.device, self.longest = network, weigher, device, longest
        self.rows_at_once = rows_at_once
        minimized = None if objective.is_plain else objective

        def region(batch: Batch, layout: Layout) -> Loss:
            return loss(network, heads, batch, minimized, layout)

        self._region: Region = (
            torch.compile(region, fullgraph=True, dynamic=False, backend=BACKEND) if compiled else region
        )

    def add(self, batch: Batch, context: int) -> Float[Tensor, ""]:
        """Add the batch's gradients to the parameters'. Segments are cut at `context` tokens.

        Returns the mean plain cross-entropy in nats, float64, on the device.
        """
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for part, layout in self.parts(batch, context):
            share = len(part.tokens) / len(batch.tokens)
            made = self._region(part, layout)
            (made.total * share).backward()
            total += (made.nats * share).double()
        return total

    def parts(self, batch: Batch, context: int) -> Iterator[tuple[Batch, Layout]]:
        """What one forward takes at a time: a part of the rows on the device, and its layout."""
        for part in batch.parts(self.rows_at_once):
            cut = part.capped(context)
            layout = self.network.layout(cut.starts, self.longest)
            there = cut.to(self.device)
            yield (there if self.weigher is None else replace(there, weights=self.weigher(there))), layout


@contextmanager
def compiling(on: bool) -> Iterator[None]:
    """For the block's duration a region may have as many graphs as a run has states. Forgets those of other
    runs in this process: they hold memory, and count against the limit."""
    if not on:
        with nullcontext():
            yield
        return
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=GRAPHS, accumulated_recompile_limit=GRAPHS):
        yield
    torch._dynamo.reset()
