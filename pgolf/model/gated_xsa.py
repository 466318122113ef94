"""Gated XSA: how much of its own value's direction a head gives up is learned.

    o_h <- o_h - gamma_h (o_h . v^) v^        gamma_h = tanh(a_h), a_h = 0 at the start

so that it begins as plain attention. With `begin_excluded`, gamma_h = 1 + tanh(a_h): it begins as XSA, and is
an identity extension of a stack that has it (PR 2018, 2118; no gain over XSA was seen at full scale).
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pgolf.model.roles import Role
from pgolf.model.xsa import along_value, on_layer
from pgolf.section import Section


class GatedXsa(Section):
    kind: Literal["gated_xsa"] = "gated_xsa"
    last_layers: int | None = Field(None, ge=1)  # None: all
    begin_excluded: bool = False

    def build(self, heads: int, layer: int, layers: int) -> "GatedXsaModule | None":
        here = on_layer(self.last_layers, layer, layers)
        return GatedXsaModule(heads, 1.0 if self.begin_excluded else 0.0) if here else None


class GatedXsaModule(nn.Module):
    ROLES = {"a": Role.CONTROL}

    def __init__(self, heads: int, begin: float) -> None:
        super().__init__()
        self.begin = begin
        self.a = nn.Parameter(torch.empty(heads))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.a)

    def forward(
        self, o: Float[Tensor, "batch time heads dim"], v: Float[Tensor, "batch time kv_heads dim"]
    ) -> Float[Tensor, "batch time heads dim"]:
        gamma = (self.begin + self.a.tanh()).to(o.dtype).unsqueeze(1)
        return o - gamma * along_value(o, v)
