"""Matrices of one shape as a bank: stacked, padded with zeros to a multiple of the ranks, each rank owning
one slice of it (PR 399, PR 549).

A rank receives the mean gradient of its slice alone, keeps momentum for its slice alone and computes its
slice of the update; all of them gather the whole update. A parameter [k, rows, cols] enters as k matrices.
The padding's gradient is zero on every rank, so its update stays zero and nothing reads it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pgolf.optim.ranks import Pending, Ranks


class Bank:
    """Matrices [rows, cols], in the order of their parameters. `dtype` is that of gradients and momentum."""

    def __init__(self, params: list[Tensor], ranks: Ranks, dtype: torch.dtype) -> None:
        self.params, self.ranks = params, ranks
        self.matrices = [m for p in params for m in _matrices(p.detach())]
        self.rows, self.cols = self.matrices[0].shape
        own = -(-len(self.matrices) // ranks.size)
        whole = (own * ranks.size, self.rows, self.cols)
        self.grads = torch.zeros(whole, dtype=dtype, device=params[0].device)
        self.momentum = torch.zeros(own, self.rows, self.cols, dtype=dtype, device=params[0].device)
        self._arriving = Pending(self.grads[:own])

    @property
    def bytes(self) -> int:
        return self.grads.numel() * self.grads.element_size()

    def send(self) -> None:
        """Start averaging the gradients; one that is None counts as zero."""
        slots: list[Tensor] = []
        grads: list[Tensor] = []
        at = 0
        for p in self.params:
            into = self.grads[at : at + len(_matrices(p))]
            at += len(into)
            if p.grad is None:
                into.zero_()
            else:
                slots.extend(into.unbind())
                grads.extend(_matrices(p.grad))
        if slots:
            torch._foreach_copy_(slots, grads)
        self._arriving = self.ranks.mean_slice(self.grads)

    def own_grads(self) -> Float[Tensor, "own rows cols"]:
        """The mean gradients of this rank's slice."""
        return self._arriving.wait()

    def spread(self, update: Float[Tensor, "own rows cols"]) -> Pending:
        """Start gathering every rank's slice of the update."""
        return self.ranks.gather(update.contiguous())

    def apply(self, update: Float[Tensor, "padded rows cols"], scale: float, keep: float) -> None:
        """w <- keep w - scale update, for every matrix."""
        if keep != 1.0:
            torch._foreach_mul_(self.matrices, keep)
        wide = update[: len(self.matrices)].to(self.matrices[0].dtype)
        torch._foreach_add_(self.matrices, list(wide.unbind()), alpha=-scale)


def banks_of(params: list[Tensor], ranks: Ranks, dtype: torch.dtype | None) -> list[Bank]:
    """One bank a shape, the largest first; `dtype` None is the parameters' own."""
    shapes: dict[tuple[int, ...], list[Tensor]] = {}
    for p in params:
        assert p.dim() in (2, 3), f"a matrix, or a stack of them, not {tuple(p.shape)}"
        shapes.setdefault(tuple(p.shape[-2:]), []).append(p)
    banks = [Bank(same, ranks, dtype or same[0].dtype) for same in shapes.values()]
    return sorted(banks, key=lambda bank: -bank.bytes)


def _matrices(p: Tensor) -> list[Tensor]:
    return list(p.unbind()) if p.dim() == 3 else [p]
