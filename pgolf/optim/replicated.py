"""Gradients of the parameters that every rank holds whole: tables, control vectors, training-only heads.

A large gradient is averaged by itself. All the small ones go in one flat buffer per dtype, since sixty
vectors of a few hundred numbers would cost sixty latencies; whatever else the loop has to tell the other
ranks (its loss, that time is up) rides along in that buffer for nothing.
"""

import torch
from torch import Tensor

from pgolf.optim.ranks import Pending, Ranks

SMALL = 32_768  # elements: more than these are averaged by themselves


class Replicated:
    """The mean gradients of `params`, in their order."""

    def __init__(self, params: list[Tensor], ranks: Ranks) -> None:
        self.params, self.ranks = params, ranks
        large = [i for i, p in enumerate(params) if p.numel() > SMALL]
        self._large = sorted(large, key=lambda i: -params[i].numel())
        self._small: dict[torch.dtype, list[int]] = {}
        for i, p in enumerate(params):
            if p.numel() <= SMALL:
                self._small.setdefault(p.dtype, []).append(i)
        self._flying: list[tuple[list[int], Pending]] = []
        self._riding: tuple[Tensor, Pending] | None = None

    def send(self, ride: Tensor | None = None) -> None:
        """Start averaging; a gradient that is None counts as zero."""
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.params]
        self._flying = [([i], self.ranks.mean(grads[i].contiguous())) for i in self._large]
        self._riding = None
        groups = dict(self._small)
        if ride is not None:
            groups.setdefault(ride.dtype, [])
        for dtype, members in groups.items():
            last = [ride.flatten()] if ride is not None and ride.dtype == dtype else []
            pending = self.ranks.mean(torch.cat([*(grads[i].flatten() for i in members), *last]))
            self._flying.append((members, pending))
            if ride is not None and last:
                self._riding = ride, pending

    def received(self) -> list[Tensor]:
        """The mean gradients, in the parameters' order and shapes."""
        grads: dict[int, Tensor] = {}
        for members, pending in self._flying:
            whole, at = pending.wait().flatten(), 0
            for i in members:
                grads[i] = whole[at : at + self.params[i].numel()].view(self.params[i].shape)
                at += self.params[i].numel()
        return [grads[i] for i in range(len(self.params))]

    def ride(self) -> Tensor | None:
        """The mean of what rode along, in its own shape."""
        if self._riding is None:
            return None
        given, pending = self._riding
        flat = pending.wait()
        return flat[len(flat) - given.numel() :].view(given.shape)
