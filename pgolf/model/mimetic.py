"""Mimetic initialization of attention's output: a head begins by taking a little of its value back.

    O_h = -strength * V_h^T        O_h [width, dim]: the columns of head h; V_h: its group's rows of Wv

so that O_h V_h is about -strength times a projection, as it is in trained networks
(https://arxiv.org/abs/2305.09828; part of PR 1089 with 0.05, never measured alone). The MLP's output begins
at zero as ever.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.model.linear import Initial, Linear, zeros
from pgolf.section import Section


class Mimetic(Section):
    kind: Literal["mimetic"] = "mimetic"
    strength: float = Field(0.05, gt=0)

    def attention_output(self, v: Linear, heads: int, kv_heads: int, layers: int) -> Initial:
        return TakenBack(v, heads, kv_heads, self.strength)

    def mlp_output(self, layers: int) -> Initial:
        return zeros


class TakenBack:
    """Reads the value projection, which is initialized before the output is."""

    def __init__(self, v: Linear, heads: int, kv_heads: int, strength: float) -> None:
        self.v, self.group, self.kv_heads, self.strength = v, heads // kv_heads, kv_heads, strength

    def __call__(self, weight: Float[Tensor, "width channels"], generator: torch.Generator) -> None:
        grouped = self.v.weight.unflatten(0, (self.kv_heads, -1))
        weight.copy_(-self.strength * grouped.repeat_interleave(self.group, dim=0).flatten(0, 1).T)
