"""Output projections begin orthogonal and small instead of zero.

    Wo, Wdown: semi-orthogonal, times 1 / sqrt(2 L)        L layers

so that each of the 2 L branches begins with a 2 L-th of the power that it would have with gain 1. The PR 198
lineage had it for projections that are not flagged zero, and flagged all of them.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pgolf.model.linear import Initial, Linear, orthogonal
from pgolf.section import Section


class DeepOrthogonal(Section):
    kind: Literal["deep_orthogonal"] = "deep_orthogonal"

    def attention_output(self, v: Linear, heads: int, kv_heads: int, layers: int) -> Initial:
        return Shrunk((2 * layers) ** -0.5)

    def mlp_output(self, layers: int) -> Initial:
        return Shrunk((2 * layers) ** -0.5)


class Shrunk:
    """A semi-orthogonal matrix times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, weight: Float[Tensor, "outputs inputs"], generator: torch.Generator) -> None:
        orthogonal(weight, generator)
        weight.mul_(self.factor)
