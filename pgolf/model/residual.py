"""Residual control vectors: what a block reads, and how loudly its branches write.

    u = m0 * x + m1 * x0 (x0: the normalized embedding)      x <- u + alpha * attn + mu * mlp

All are per-channel; m0 = 1, m1 = 0, alpha = mu = 1 at the start, so the block begins as a plain
pre-norm block. In every record since the baseline. `phase` gives m0 and m1 another start, by depth.
"""

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from pgolf.model.phase_mix import PhaseMix
from pgolf.model.roles import Role
from pgolf.section import RuleBroken, Section


class Residual(Section):
    mix: bool = True  # blocks also read the embedding (m0, m1)
    scales: bool = True  # branches have per-channel gains (alpha, mu)

    phase: PhaseMix | None = None

    @model_validator(mode="after")
    def _mixed(self) -> "Residual":
        if self.phase and not self.mix:
            raise RuleBroken("residual.phase sets how the mix begins", "mix=false", "mix=true, or phase=null")
        return self

    def build(self, width: int, layer: int = 0, layers: int = 1) -> "ResidualModule":
        """The vectors of block `layer` of `layers`."""
        start = self.phase.start(layer, layers) if self.phase else (1.0, 0.0)
        return ResidualModule(width, self.mix, self.scales, start)


class ResidualModule(nn.Module):
    ROLES = {"mix": Role.CONTROL, "attn_scale": Role.CONTROL, "mlp_scale": Role.CONTROL}

    def __init__(self, width: int, mix: bool, scales: bool, start: tuple[float, float] = (1.0, 0.0)) -> None:
        super().__init__()
        self.start = start
        self.mix = nn.Parameter(torch.empty(2, width)) if mix else None
        self.attn_scale = nn.Parameter(torch.empty(width)) if scales else None
        self.mlp_scale = nn.Parameter(torch.empty(width)) if scales else None

    def reset(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            if self.mix is not None:
                self.mix[0], self.mix[1] = self.start
            for scale in (self.attn_scale, self.mlp_scale):
                if scale is not None:
                    scale.fill_(1.0)

    def read(self, x: Float[Tensor, "*b d"], x0: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        if self.mix is None:
            return x
        m0, m1 = self.mix.to(x.dtype)
        return m0 * x + m1 * x0

    def scale_attention(self, a: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return a if self.attn_scale is None else self.attn_scale.to(a.dtype) * a

    def scale_mlp(self, m: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return m if self.mlp_scale is None else self.mlp_scale.to(m.dtype) * m
