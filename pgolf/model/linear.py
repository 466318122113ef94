"""A bias-free matrix, kept in float32 and applied in the activation's dtype.

Weights are [out, in]. Keeping the master in float32 and casting at use is the precision policy of the
record stacks; on CPU both are float32 and the cast is free.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.roles import Role


class Linear(nn.Module):
    """y = W x. Orthogonal or zero at initialization."""

    def __init__(self, inputs: int, outputs: int, role: Role, *, zero: bool = False) -> None:
        super().__init__()
        self.ROLES = {"weight": role}
        self.zero = zero
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def reset(self, generator: torch.Generator) -> None:
        """Semi-orthogonal rows or columns (gain 1), or zeros for an output projection."""
        with torch.no_grad():
            if self.zero:
                self.weight.zero_()
            else:
                nn.init.orthogonal_(self.weight, generator=generator)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return F.linear(x, self.weight.to(x.dtype))
