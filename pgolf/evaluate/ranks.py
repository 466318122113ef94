"""The ranks that share an evaluation: each scores its part, and they meet where a round ends."""

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This rank among the others. The process group exists already where there are others."""

    rank: int = 0
    size: int = 1

    def total(self, x: Tensor) -> Tensor:
        """The sum of the ranks' tensors, in place of `x`."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def gather(self, value: object) -> list[object]:
        """Every rank's value, on every rank; also a barrier."""
        if self.size == 1:
            return [value]
        values: list[object] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


ALONE = Ranks()
