"""Parallel residual (GPT-J form): both branches of a late block read the same stream.

    out = u + alpha * Attn(n(u)) + mu * MLP(n(u))        for blocks from `from_layer` on

Faster, about even before quantization and better after it (PR 1412, 1477, 1493 from layer 7).
"""

from typing import Literal

from pydantic import Field

from pgolf.section import Section


class ParallelResidual(Section):
    kind: Literal["parallel_residual"] = "parallel_residual"
    from_layer: int = Field(7, ge=0)
