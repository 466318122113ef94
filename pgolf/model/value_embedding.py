"""Value embedding: a few late layers add a further, small embedding of the token to their values.

    v_l <- v_l + s_l * c * P T[t]        for l in `layers`; T [vocab, rank], P [kv_heads dim, rank]

One table and one projection for all of them, one scale c = 0.1 and a number s_l = 1 a layer (PR 374, 414 to
1218, where rank is 128 and layers are 9 and 10). T ~ N(0, 0.01^2). P is orthogonal, as the scripts' global
initialization made it, so the branch begins small, not silent; with `zero` it begins silent. About -0.001 BPB
for vocab * rank parameters; at 8192 tokens it was dropped with no loss (PR 1394).
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.linear import Linear
from pgolf.model.roles import Role
from pgolf.section import RuleBroken, Section


class ValueEmbedding(Section):
    rank: int = Field(128, ge=1)  # columns of the table
    layers: tuple[int, ...] = (9, 10)  # that add it
    init_std: float = Field(0.01, gt=0)
    scale: float = 0.1  # initial c
    zero: bool = False  # P begins at zero

    @field_validator("layers")
    @classmethod
    def _rising(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0:
            raise RuleBroken(
                "value_embedding.layers are layers of the model in rising order, at least one",
                f"layers={list(layers)}",
                f"layers={sorted({layer for layer in layers if layer >= 0}) or [0]}",
            )
        return layers

    def build(self, vocab_size: int, kv_heads: int, dim: int) -> "ValueEmbeddingModule":
        return ValueEmbeddingModule(self, vocab_size, kv_heads, dim)


class ValueEmbeddingModule(nn.Module):
    ROLES = {"table": Role.TABLE, "scale": Role.CONTROL, "layer_scales": Role.CONTROL}

    def __init__(self, section: ValueEmbedding, vocab_size: int, kv_heads: int, dim: int) -> None:
        super().__init__()
        self.section, self.kv_heads = section, kv_heads
        self.table = nn.Parameter(torch.empty(vocab_size, section.rank))
        self.project = Linear(section.rank, kv_heads * dim, Role.PROJECTION, zero=section.zero)
        self.scale = nn.Parameter(torch.empty(()))
        self.layer_scales = nn.Parameter(torch.empty(len(section.layers)))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.table, std=self.section.init_std, generator=generator)
        nn.init.constant_(self.scale, self.section.scale)
        nn.init.ones_(self.layer_scales)

    def forward(
        self, tokens: Int[Tensor, "batch time"], dtype: torch.dtype
    ) -> dict[int, Float[Tensor, "batch time kv_heads dim"]]:
        """What each of the layers adds to its values."""
        shared = self.scale.to(dtype) * self.project(F.embedding(tokens, self.table).to(dtype))
        heads = shared.unflatten(2, (self.kv_heads, -1))
        return {
            layer: s * heads
            for layer, s in zip(self.section.layers, self.layer_scales.to(dtype), strict=True)
        }
