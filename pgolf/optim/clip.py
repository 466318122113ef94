"""Gradient clipping by the global norm: g <- g min(1, limit / (|g| + 1e-6)).

By default |g| is the norm of the mean gradient, which any number of ranks agree on: each adds the squares of
its own slices, one number is summed, and what every rank holds whole counts once. It has to wait for all
gradients, so nothing of the update overlaps with their arrival.

`local` is what the bank stacks did (PR 549, 1019, 1530 to 1855): each rank scales its own gradient by its own
norm before they are averaged. A rank's gradient is noisier than the mean, so its norm is larger and the same
limit clips harder, the more so the more ranks share a batch: a result with it belongs to its number of ranks.
Under Muon and AdamW, which divide lengths out again, either form mostly re-weights steps (and ranks) in the
momentum.

Training-only heads take no part: their gradients would drown the trunk's (1.F of the lineage's notes).
"""

from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pgolf.optim.ranks import Ranks

ClipScope = Literal["local"]


def global_norm(sliced: list[Tensor], whole: list[Tensor], ranks: Ranks) -> Float[Tensor, ""]:
    """The norm over gradients of which each rank has its slices, and gradients that all ranks have alike."""
    dtype = reduce(torch.promote_types, {g.dtype for g in sliced + whole}, torch.float32)
    squares = torch.zeros(2, dtype=dtype, device=(sliced + whole)[0].device)
    for i, part in enumerate((sliced, whole)):
        if part:
            squares[i] = torch.stack(torch._foreach_norm(part, 2, dtype=dtype)).square().sum()
    return (ranks.total(squares[:1]).squeeze(0) + squares[1]).sqrt()


def clip_(grads: list[Tensor], norm: Float[Tensor, ""], limit: float) -> None:
    """Scale in place; stays on the device."""
    torch._foreach_mul_(grads, (limit / (norm + 1e-6)).clamp(max=1.0))
