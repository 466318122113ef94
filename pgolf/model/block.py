"""One transformer block: read, attend, transform. The order of section 0.3 of the reference."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pgolf.model.attention import AttentionModule
from pgolf.model.mlp import MlpModule
from pgolf.model.residual import ResidualModule
from pgolf.model.rms_norm import rms_norm


class Block(nn.Module):
    def __init__(
        self, attention: AttentionModule, mlp: MlpModule, residual: ResidualModule, norm_scale: float
    ) -> None:
        super().__init__()
        self.attention, self.mlp, self.residual, self.norm_scale = attention, mlp, residual, norm_scale

    def forward(
        self,
        x: Float[Tensor, "batch time d"],
        x0: Float[Tensor, "batch time d"],
        mask: Bool[Tensor, "batch time time"],
    ) -> Float[Tensor, "batch time d"]:
        u = self.residual.read(x, x0)
        z = self.residual.add_attention(u, self.attention(rms_norm(u) * self.norm_scale, mask))
        return self.residual.add_mlp(z, self.mlp(rms_norm(z) * self.norm_scale))
