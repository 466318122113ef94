"""SmearGate: each token's embedding takes in some of the one before it, by an input-dependent gate.

    e_t <- e_t + lam sigmoid(w . e_t[:window]) e_{t-1}        within a document; lam = 0, w = 0: identity

The right-hand side is the unsmeared row. It acts on the raw embedding, before its norm (PR 1667). Nothing
crosses a document start: the unmasked form leaked the last token of the previous document into BOS, in two
copies of the code that had to be mended twice (PR 1851).
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.roles import Role
from pgolf.section import Section


class SmearGate(Section):
    kind: Literal["smear_gate"] = "smear_gate"
    window: int = Field(12, ge=1)  # channels read

    def build(self, width: int) -> "SmearGateModule":
        return SmearGateModule(min(self.window, width))


class SmearGateModule(nn.Module):
    ROLES = {"w": Role.CONTROL, "lam": Role.CONTROL}
    before_norm = True

    def __init__(self, window: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(window))
        self.lam = nn.Parameter(torch.empty(()))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.w)
        nn.init.zeros_(self.lam)

    def forward(
        self, x: Float[Tensor, "batch time d"], starts: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time d"]:
        logit = x[..., : len(self.w)] @ self.w.to(x.dtype)
        gate = (self.lam.to(x.dtype) * torch.sigmoid(logit)).masked_fill(starts, 0.0)
        return x + gate.unsqueeze(2) * before(x)


def before(x: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch time d"]:
    """The row shifted by one position, zeros at its first."""
    return F.pad(x, (0, 0, 1, -1))
