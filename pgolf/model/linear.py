"""A bias-free matrix, kept in float32 and applied in the activation's dtype.

Weights are [out, in]. Keeping the master in float32 and casting at use is the precision policy of the
record stacks; on CPU both are float32 and the cast is free. What else is added to the product for a layer
or a document of its own comes in as adapters.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.adapter import Adapter
from pgolf.model.roles import Role

Initial = Callable[[Tensor, torch.Generator], object]  # sets a matrix in place


def orthogonal(weight: Float[Tensor, "outputs inputs"], generator: torch.Generator) -> None:
    """Semi-orthogonal rows or columns, gain 1."""
    nn.init.orthogonal_(weight, generator=generator)


def zeros(weight: Float[Tensor, "outputs inputs"], generator: torch.Generator) -> None:
    """What an output projection begins as: its branch then writes nothing."""
    weight.zero_()


class Linear(nn.Module):
    """y = W x. Orthogonal at initialization, zero, or as `initial` says."""

    def __init__(self, inputs: int, outputs: int, role: Role, *, zero: bool = False) -> None:
        super().__init__()
        self.ROLES = {"weight": role}
        self.initial: Initial = zeros if zero else orthogonal
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        self.initial(self.weight, generator)

    def forward(
        self, x: Float[Tensor, "*batch inputs"], *adapters: Adapter
    ) -> Float[Tensor, "*batch outputs"]:
        y = F.linear(x, self.weight.to(x.dtype))
        for adapter in adapters:
            y = y + adapter(x)
        return y
