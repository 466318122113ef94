"""What the gates of attention's heads have in common, and what those that read a few channels have.

A head gate sees a head's output after XSA, the block's normalized input and the raw query projection, and
scales the output before Wo. At most one is on: attention holds one.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.roles import Role


class HeadGateModule(nn.Module):
    """A subclass says how many of its logits are further outputs of the query projection."""

    gates_in_q = 0

    def forward(
        self,
        o: Float[Tensor, "batch time heads dim"],
        y: Float[Tensor, "batch time width"],
        raw_q: Float[Tensor, "batch time q_out"],
    ) -> Float[Tensor, "batch time heads dim"]:
        raise NotImplementedError


class WindowGateModule(HeadGateModule):
    """A gate whose logits are a small matrix times the first channels of something; zero at the start."""

    ROLES = {"w": Role.GATE}

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(heads, window))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.w)

    def logits(self, source: Float[Tensor, "batch time channels"]) -> Float[Tensor, "batch time heads 1"]:
        """One a head, ready to scale its output."""
        read = source[..., : self.w.shape[1]].contiguous()
        return F.linear(read, self.w.to(source.dtype)).unsqueeze(3)
