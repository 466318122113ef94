"""A batch of rows: inputs, document starts, next-token targets, and what each target weighs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter

from jaxtyping import Bool, Float, Int
from torch import Tensor

from pgolf.data.starts import capped


@dataclass(frozen=True)
class Batch:
    """Inputs, document starts and next-token targets, one row a window. No weights: all weigh 1."""

    tokens: Int[Tensor, "rows context"]
    starts: Bool[Tensor, "rows context"]
    targets: Int[Tensor, "rows context"]
    weights: Float[Tensor, "rows context"] | None = None

    def to(self, device: str) -> "Batch":
        """On a device; out of pinned memory the copy overlaps with what the device computes."""
        return self._each(lambda t: t.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """In memory that a GPU copies from by itself."""
        return self._each(lambda t: t.pin_memory())

    def capped(self, context: int) -> "Batch":
        """Documents longer than `context` tokens cut into pieces of that length. What was pinned stays so: a
        copy from other memory waits for what the GPU still does."""
        cut = capped(self.starts, context)
        return replace(self, starts=cut.pin_memory() if self.starts.is_pinned() else cut)

    def parts(self, rows: int) -> Iterator["Batch"]:
        """The batch in parts of at most so many rows, in order."""
        for at in range(0, len(self.tokens), rows):
            yield self._each(itemgetter(slice(at, at + rows)))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        weights = None if self.weights is None else change(self.weights)
        return Batch(change(self.tokens), change(self.starts), change(self.targets), weights)
