"""Asymmetric softcap: positive and negative logits are bounded by two learned numbers.

    cap     z <- C+ tanh(z / C+) for z > 0, C- tanh(z / C-) for z <= 0        both begin at the symmetric cap
    gain    z <- p y for y > 0, n y for y <= 0, of y = C tanh(z / C)          p = n = 1

Either begins as the symmetric softcap that holds it. PR 1923, 1945 (`cap`: 1.0658 alone, 1.0593 with AWQ-lite;
the claims conflict, and both trained it at test time alone) and PR 1514 (`gain`).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pgolf.model.roles import Role
from pgolf.section import Section

Form = Literal["cap", "gain"]


class AsymmetricSoftcap(Section):
    form: Form = "cap"

    def build(self, cap: float) -> "AsymmetricSoftcapModule":
        return AsymmetricSoftcapModule(self.form, cap)


class AsymmetricSoftcapModule(nn.Module):
    ROLES = {"positive": Role.CONTROL, "negative": Role.CONTROL}

    def __init__(self, form: Form, cap: float) -> None:
        super().__init__()
        self.form, self.cap = form, cap
        self.positive = nn.Parameter(torch.empty(()))
        self.negative = nn.Parameter(torch.empty(()))

    def reset(self, generator: torch.Generator) -> None:
        for side in (self.positive, self.negative):
            nn.init.constant_(side, self.cap if self.form == "cap" else 1.0)

    def forward(self, z: Float[Tensor, "*b v"]) -> Float[Tensor, "*b v"]:
        side = torch.where(z > 0, self.positive, self.negative)
        if self.form == "cap":
            return side * torch.tanh(z / side)
        return side * self.cap * torch.tanh(z / self.cap)
