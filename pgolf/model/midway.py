"""Where a forward stands between two executions: all that the rest of it reads.

    upper(lower(tokens, until)) = hidden(tokens)        for every until

What the lower executions say of a position does not change with later ones. So whoever adapts the upper layers
to a document lets every position through the frozen lower ones once, appends it to those before (`then`), and
begins each step of the adaptation from here.

To be made under `no_grad`, then it is a constant to what follows. Under `inference_mode` it is one that autograd
refuses to save.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pgolf.model.cross_carry import Visits


@dataclass(frozen=True)
class Midway:
    """Before execution `step`. Every tensor is [batch, time, ...]."""

    step: int
    x: Float[Tensor, "batch time d"]  # the stream; where there are two lanes, attention's
    x0: Float[Tensor, "batch time d"]  # the normalized embedding
    values: dict[int, Float[Tensor, "batch time kv_heads dim"]]  # of value embeddings, by layer
    first_value: Float[Tensor, "batch time kv_heads dim"] | None = None
    lane: Float[Tensor, "batch time d"] | None = None  # the MLP's, once lanes are two
    stack: tuple[Float[Tensor, "batch time d"], ...] = ()  # U-Net skips that wait
    visits: Visits = field(default_factory=dict)

    def then(self, *later: "Midway") -> "Midway":
        """The positions of all, one after the other."""
        assert all(part.step == self.step for part in later), "all stand before the same execution"
        return _each(lambda *parts: torch.cat(parts, dim=1), self, *later)

    def since(self, position: int) -> "Midway":
        """From a position on."""
        return _each(lambda part: part[:, position:], self)

    def select(self, rows: Int[Tensor, " kept"] | Bool[Tensor, " batch"]) -> "Midway":
        """These rows alone."""
        return _each(lambda part: part[rows], self)


def _each(work: Callable[..., Tensor], *parts: Any) -> Any:
    """The same structure, made of what `work` makes of tensors that lie at the same place."""
    first = parts[0]
    if isinstance(first, Tensor):
        return work(*parts)
    if isinstance(first, tuple):
        return tuple(_each(work, *at) for at in zip(*parts, strict=True))
    if isinstance(first, dict):
        return {key: _each(work, *(part[key] for part in parts)) for key in first}
    if isinstance(first, Midway):
        return Midway(
            **{f.name: _each(work, *(getattr(part, f.name) for part in parts)) for f in fields(first)}
        )
    return first
