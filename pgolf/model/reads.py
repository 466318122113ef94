"""What the blocks of one forward read beside the stream itself."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from pgolf.kernels.attention import Layout


@dataclass
class Reads:
    """Made once a forward. Blocks read it; the first value projection is left here by layer 0."""

    x0: Float[Tensor, "batch time d"]  # the normalized embedding
    layout: Layout  # the documents, as attention reads them
    values: dict[int, Float[Tensor, "batch time kv_heads dim"]] = field(default_factory=dict)  # by layer
    first_value: Float[Tensor, "batch time kv_heads dim"] | None = None
