"""A bias-free matrix, kept in float32 and applied in the activation's dtype.

Weights are [out, in]. Keeping the master in float32 and casting at use is the precision policy of the
record stacks; on CPU both are float32 and the cast is free. What else is added to the product for a layer
or a document of its own comes in as adapters.

Late in training the weight may be applied as its deployed form will be (`rounding`, pgolf.train.late_qat).
Whoever multiplies by the weight asks `applied` for it, fused kernels too: a rounding that one path bypasses
trains for a network that nobody deploys (in PR 315 to 549 no path had it).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.adapter import Adapter
from pgolf.model.roles import Role

Initial = Callable[[Tensor, torch.Generator], object]  # sets a matrix in place
Rounding = Callable[[Tensor], Tensor]  # the weight -> what of it the forward applies, differentiable


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
        self.initialize: Initial = zeros if zero else orthogonal
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.rounding: Rounding | None = None  # a compiler guards on it: another one is another graph

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        self.initialize(self.weight, generator)

    def applied(self, dtype: torch.dtype) -> Float[Tensor, "outputs inputs"]:
        """The matrix that activations of this dtype are multiplied by."""
        weight = self.weight if self.rounding is None else self.rounding(self.weight)
        return weight.to(dtype)

    def forward(
        self, x: Float[Tensor, "*batch inputs"], *adapters: Adapter
    ) -> Float[Tensor, "*batch outputs"]:
        y = F.linear(x, self.applied(x.dtype))
        for adapter in adapters:
            y = y + adapter(x)
        return y
