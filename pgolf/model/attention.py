"""Grouped-query attention with QK norm and a learned gain per query head.

    q, k <- n(Wq y), n(Wk y) per head;  RoPE;  q_h <- g_h q_h;  softmax attention;  Wo

After the norm |q| = |k| = sqrt(dim), so the gain alone sets the softmax's inverse temperature. It moves
slowly, its initial value matters: 1.5 in the first baseline, 5 in late stacks; short runs want less
(PR 1125, 1413, 1418).
"""

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from pgolf.kernels.attention import attend
from pgolf.model.linear import Linear
from pgolf.model.rms_norm import rms_norm
from pgolf.model.roles import Role
from pgolf.model.rope import Rope, RopeModule
from pgolf.section import RuleBroken, Section


class Attention(Section):
    heads: int = Field(8, ge=1)
    kv_heads: int = Field(4, ge=1)
    qk_gain: float = Field(1.5, gt=0)  # initial inverse temperature of every head

    @model_validator(mode="after")
    def _grouped(self) -> "Attention":
        if self.heads % self.kv_heads:
            valid = [n for n in range(1, self.heads + 1) if self.heads % n == 0]
            raise RuleBroken(
                "kv_heads divides heads",
                f"kv_heads={self.kv_heads}, heads={self.heads}",
                f"kv_heads in {valid}",
            )
        return self

    def head_dim(self, width: int) -> int:
        """Dimensions per head. Raises RuleBroken if the heads do not divide the width evenly."""
        if width % (2 * self.heads):
            step = 2 * self.heads
            below = max(width // step * step, step)
            raise RuleBroken(
                "model.width is a multiple of 2 x attention.heads (RoPE rotates pairs)",
                f"width={width}, heads={self.heads}",
                f"width={below} or {below + step}",
            )
        return width // self.heads

    def build(self, width: int, rope: Rope) -> "AttentionModule":
        return AttentionModule(
            width, self.heads, self.kv_heads, self.head_dim(width), self.qk_gain, rope.build()
        )


class AttentionModule(nn.Module):
    ROLES = {"gain": Role.CONTROL}

    def __init__(
        self, width: int, heads: int, kv_heads: int, dim: int, gain: float, rope: RopeModule
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.dim, self.initial_gain = heads, kv_heads, dim, gain
        self.q = Linear(width, heads * dim, Role.ATTENTION)
        self.k = Linear(width, kv_heads * dim, Role.ATTENTION)
        self.v = Linear(width, kv_heads * dim, Role.ATTENTION)
        self.o = Linear(heads * dim, width, Role.ATTENTION, zero=True)
        self.gain = nn.Parameter(torch.empty(heads))
        self.rope = rope

    def reset(self, generator: torch.Generator) -> None:
        nn.init.constant_(self.gain, self.initial_gain)

    def forward(
        self, y: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time time"]
    ) -> Float[Tensor, "batch time width"]:
        batch, time, _ = y.shape
        q = self.rope(rms_norm(self._heads(self.q(y), self.heads)))
        k = self.rope(rms_norm(self._heads(self.k(y), self.kv_heads)))
        v = self._heads(self.v(y), self.kv_heads)
        q = q * self.gain.to(q.dtype).view(1, -1, 1, 1)
        o = attend(q, k, v, mask)
        return self.o(o.transpose(1, 2).reshape(batch, time, self.heads * self.dim))

    def _heads(self, x: Float[Tensor, "batch time out"], heads: int) -> Float[Tensor, "batch h time d"]:
        return x.view(x.shape[0], x.shape[1], heads, self.dim).transpose(1, 2)
