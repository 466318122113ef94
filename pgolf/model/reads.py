"""What the blocks of one forward read beside the stream itself."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from pgolf.kernels.attention import Layout
from pgolf.model.adapter import Adapter, Adapters
from pgolf.model.cache import Cache


@dataclass
class Reads:
    """Made once a forward. Blocks read it; the first value projection is left here by layer 0.

    A stored block may serve several layers, so it is told whose turn it is.
    """

    x0: Float[Tensor, "batch time d"]  # the normalized embedding
    layout: Layout  # the documents, as attention reads them
    values: dict[int, Float[Tensor, "batch time kv_heads dim"]] = field(default_factory=dict)  # by layer
    first_value: Float[Tensor, "batch time kv_heads dim"] | None = None
    layer: int = 0  # whose turn it is
    adapters: tuple[Adapters, ...] = ()  # of the layer whose turn it is
    cache: Cache | None = None  # of the positions before x0's, if it does not begin its rows
    step: int = 0  # the execution that is on

    def turn(self, layer: int, *adapters: Adapters, step: int = 0) -> "Reads":
        """From here on, `layer` reads."""
        self.layer, self.adapters, self.step = layer, adapters, step
        return self

    def adapting(self, matrix: str) -> tuple[Adapter, ...]:
        """The adapters of this layer's matrix of that name."""
        return tuple(own[matrix] for own in self.adapters if matrix in own)

    @property
    def first(self) -> int:
        """The position of x0's first."""
        return self.cache.end if isinstance(self.cache, Cache) else 0

    def with_past(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all positions that the layout speaks of, those of x0's positions being these."""
        return self.cache.extended(self.step, k, v) if isinstance(self.cache, Cache) else (k, v)

    @property
    def value(self) -> Float[Tensor, "batch time kv_heads dim"] | None:
        """What this layer adds to its values, if anything."""
        return self.values.get(self.layer)
