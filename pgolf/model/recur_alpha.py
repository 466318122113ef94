"""Recur-alpha: a layer that is executed again adds some of what it said before.

    x <- f_i(x) + a_i y_i        in every pass but the first; a = 0

y_i is layer i's output, with this addition, in the pass before (`previous`) or in the first pass (`first`). One
number for each layer of the band (PR 1714, 1766, which kept the previous output in the encoder half and no
longer in the decoder half). Gradients flow through y.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pgolf.model.cross_carry import Visits
from pgolf.model.roles import Role
from pgolf.section import Section

Kept = Literal["previous", "first"]


class RecurAlpha(Section):
    kind: Literal["recur_alpha"] = "recur_alpha"
    kept: Kept = "previous"
    initial: float = 0.0

    @property
    def layers(self) -> int | None:
        """It fits a band of any size."""
        return None

    def build(self, first: int, last: int) -> "RecurAlphaModule":
        return RecurAlphaModule(first, last - first + 1, self.kept, self.initial)


class RecurAlphaModule(nn.Module):
    ROLES = {"a": Role.CONTROL}

    def __init__(self, first: int, size: int, kept: Kept, initial: float) -> None:
        super().__init__()
        self.first, self.kept, self.initial = first, kept, initial
        self.a = nn.Parameter(torch.empty(size))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.constant_(self.a, self.initial)

    def forward(
        self, x: Float[Tensor, "batch time d"], layer: int, visits: Visits
    ) -> Float[Tensor, "batch time d"]:
        """What the stream is after layer's output x; keeps what later passes need."""
        row = layer - self.first
        if not 0 <= row < len(self.a):
            return x
        again = layer in visits
        if again:
            x = x + self.a[row].to(x.dtype) * visits[layer]
        if not again or self.kept == "previous":
            visits[layer] = x
        return x
