"""The collectives that an optimizer step needs, started at once and waited for where the result is used.

Means are sums divided on arrival: of a reduce-scatter only the own slice is divided, and no backend has to
know how to average. NCCL and gloo both have the three calls used here (all-reduce, and reduce-scatter and
all-gather of one tensor each), so there is one path for both. At one rank every call gives back what it was
given and nothing is sent.
"""

import torch.distributed as dist
from torch import Tensor

from pgolf.runtime import Runtime

if hasattr(dist, "reduce_scatter_single"):  # the names since torch 2.13, which warns about the old ones
    _reduce_scatter, _all_gather = dist.reduce_scatter_single, dist.all_gather_single
else:
    _reduce_scatter, _all_gather = dist.reduce_scatter_tensor, dist.all_gather_into_tensor


class Pending:
    """A tensor on its way. `wait` may be called any number of times."""

    def __init__(
        self, tensor: Tensor, work: dist.Work | None = None, *, divisor: int = 1, source: Tensor | None = None
    ) -> None:
        self._tensor, self._work, self._divisor = tensor, work, divisor
        self._source = source  # what is being sent lives as long as it is being sent

    def wait(self) -> Tensor:
        if self._work is not None:
            self._work.wait()
            self._work = self._source = None
            if self._divisor > 1:
                self._tensor.div_(self._divisor)
        return self._tensor


class Ranks:
    """This rank among the others."""

    def __init__(self, runtime: Runtime) -> None:
        self.rank, self.size = runtime.rank, runtime.world_size

    def mean(self, x: Tensor) -> Pending:
        """The mean of the ranks' tensors, in place of `x`, on every rank."""
        if self.size == 1:
            return Pending(x)
        return Pending(x, dist.all_reduce(x, async_op=True), divisor=self.size)

    def mean_slice(self, x: Tensor) -> Pending:
        """Of the mean of the ranks' tensors [n, ...], the rank-th of `size` equal slices along n."""
        if self.size == 1:
            return Pending(x)
        assert len(x) % self.size == 0, "a bank is padded to a multiple of the ranks"
        own = x.new_empty(len(x) // self.size, *x.shape[1:])
        return Pending(own, _reduce_scatter(own, x, async_op=True), divisor=self.size, source=x)

    def gather(self, own: Tensor) -> Pending:
        """The ranks' slices [m, ...], one after the other [m * size, ...], on every rank."""
        if self.size == 1:
            return Pending(own)
        whole = own.new_empty(len(own) * self.size, *own.shape[1:])
        return Pending(whole, _all_gather(whole, own, async_op=True), source=own)

    def total(self, x: Tensor) -> Tensor:
        """The sum of the ranks' tensors, in place of `x`; waits for it."""
        if self.size > 1:
            dist.all_reduce(x)
        return x
