"""SmearBlend: the old form of the smear, a learned blend per channel with the token before.

    x_t <- (1 - g) x_t + g x_{t-1}        g = sigmoid(gamma), x_{t-1} = 0 at a document start

gamma starts at 0 (g = 1/2) in PR 198 to 1019, after the embedding's norm; PR 65 put it before the norm with
g = 0.05 (gamma = -3). It wanted orthogonal initialization, and larger vocabularies made it superfluous
(PR 1218). Historic code let it look across documents; this one cannot.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pgolf.model.roles import Role
from pgolf.model.smear_gate import before
from pgolf.section import Section


class SmearBlend(Section):
    kind: Literal["smear_blend"] = "smear_blend"
    initial: float = 0.0  # gamma
    before_norm: bool = False

    def build(self, width: int) -> "SmearBlendModule":
        return SmearBlendModule(width, self.initial, self.before_norm)


class SmearBlendModule(nn.Module):
    ROLES = {"gamma": Role.CONTROL}

    def __init__(self, width: int, initial: float, before_norm: bool) -> None:
        super().__init__()
        self.initial, self.before_norm = initial, before_norm
        self.gamma = nn.Parameter(torch.empty(width))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.constant_(self.gamma, self.initial)

    def forward(
        self, x: Float[Tensor, "batch time d"], starts: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time d"]:
        g = torch.sigmoid(self.gamma).to(x.dtype)
        return (1 - g) * x + g * before(x).masked_fill(starts.unsqueeze(2), 0.0)
