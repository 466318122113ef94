"""Grouped-query attention with QK norm and a learned gain per query head.

    q, k <- n(Wq y), n(Wk y) per head;  RoPE;  q_h <- g_h q_h;  softmax attention;  XSA;  head gate;  Wo

After the norm |q| = |k| = sqrt(dim), so the gain alone sets the softmax's inverse temperature. It moves
slowly, its initial value matters: 1.5 in the first baseline, 5 in late stacks; short runs want less
(PR 1125, 1413, 1418). What adds to the values (`value_residual`, and value embeddings, which come in with the
reads), what removes the own value (`xsa`) and what gates the heads (`gate`) are techniques of their own.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from pgolf.kernels.attention import attend
from pgolf.model.dense_gate import DenseGate
from pgolf.model.elementwise_gate import ElementwiseGate
from pgolf.model.gated_xsa import GatedXsa, GatedXsaModule
from pgolf.model.head_gate import HeadGateModule
from pgolf.model.headwise_gate import HeadwiseGate
from pgolf.model.linear import Linear
from pgolf.model.output_gate import OutputGate
from pgolf.model.reads import Reads
from pgolf.model.rms_norm import rms_norm
from pgolf.model.roles import Role
from pgolf.model.rope import Rope, RopeModule
from pgolf.model.sparse_gate import SparseGate
from pgolf.model.value_residual import ValueResidual, ValueResidualModule
from pgolf.model.xsa import Xsa, XsaModule
from pgolf.section import RuleBroken, Section

HeadGate = Annotated[
    SparseGate | DenseGate | OutputGate | HeadwiseGate | ElementwiseGate, Field(discriminator="kind")
]
SelfExclusion = Annotated[Xsa | GatedXsa, Field(discriminator="kind")]


class Attention(Section):
    heads: int = Field(8, ge=1)
    kv_heads: int = Field(4, ge=1)
    qk_gain: float = Field(1.5, gt=0)  # initial inverse temperature of every head
    xsa: SelfExclusion | None = None
    gate: HeadGate | None = None
    value_residual: ValueResidual | None = None

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

    def build(self, width: int, rope: Rope, layer: int = 0, layers: int = 1) -> "AttentionModule":
        """Attention of block `layer` of `layers`."""
        dim = self.head_dim(width)
        return AttentionModule(
            width,
            self.heads,
            self.kv_heads,
            dim,
            self.qk_gain,
            rope.build(),
            self.xsa.build(self.heads, layer, layers) if self.xsa else None,
            self.gate.build(width, self.heads, dim) if self.gate else None,
            self.value_residual.build(layer) if self.value_residual else None,
        )


class AttentionModule(nn.Module):
    ROLES = {"gain": Role.CONTROL}

    def __init__(
        self, width: int, heads: int, kv_heads: int, dim: int, gain: float, rope: RopeModule,
        xsa: XsaModule | GatedXsaModule | None = None, gate: HeadGateModule | None = None,
        value_residual: ValueResidualModule | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.kv_heads, self.dim, self.initial_gain = heads, kv_heads, dim, gain
        gates_in_q = gate.gates_in_q if gate is not None else 0
        self.q = Linear(width, heads * dim + gates_in_q, Role.ATTENTION)
        self.k = Linear(width, kv_heads * dim, Role.ATTENTION)
        self.v = Linear(width, kv_heads * dim, Role.ATTENTION)
        self.o = Linear(heads * dim, width, Role.ATTENTION, zero=True)
        self.gain = nn.Parameter(torch.empty(heads))
        self.rope, self.xsa, self.gate, self.value_residual = rope, xsa, gate, value_residual

    def reset(self, generator: torch.Generator) -> None:
        nn.init.constant_(self.gain, self.initial_gain)

    def forward(
        self, y: Float[Tensor, "batch time width"], reads: Reads
    ) -> Float[Tensor, "batch time width"]:
        raw = self.q(y, *reads.adapting("q"))
        q = self.rope(rms_norm(self._heads(raw[..., : self.heads * self.dim], self.heads)), reads.first)
        k = self.rope(rms_norm(self._heads(self.k(y, *reads.adapting("k")), self.kv_heads)), reads.first)
        v = self._values(y, reads)
        q = q * self.gain.to(q.dtype).unsqueeze(1)
        o = attend(q, *reads.with_past(k, v), reads.layout)
        if self.xsa is not None:
            o = self.xsa(o, v)
        if self.gate is not None:
            o = self.gate(o, y, raw)
        return self.o(o.flatten(2), *reads.adapting("o"))

    def _values(
        self, y: Float[Tensor, "batch time width"], reads: Reads
    ) -> Float[Tensor, "batch time kv_heads dim"]:
        v = self._heads(self.v(y, *reads.adapting("v")), self.kv_heads)
        if self.value_residual is not None:
            v = self.value_residual(v, reads)
        return v if reads.value is None else v + reads.value

    def _heads(self, x: Float[Tensor, "batch time out"], heads: int) -> Float[Tensor, "batch time h d"]:
        return x.unflatten(2, (heads, self.dim))
