"""One transformer block: read, attend, transform. The order of section 0.3 of the reference."""

from jaxtyping import Float
from torch import Tensor, nn

from pgolf.model.attention import AttentionModule
from pgolf.model.mlp import MlpModule
from pgolf.model.reads import Reads
from pgolf.model.residual import ResidualModule
from pgolf.model.rms_norm import rms_norm


class Block(nn.Module):
    """Sequential, or with both branches reading the same stream (`parallel`)."""

    def __init__(
        self,
        attention: AttentionModule,
        mlp: MlpModule,
        residual: ResidualModule,
        norm_scale: float,
        parallel: bool = False,
    ) -> None:
        super().__init__()
        self.attention, self.mlp, self.residual = attention, mlp, residual
        self.norm_scale, self.parallel = norm_scale, parallel

    def attend(self, u: Float[Tensor, "batch time d"], reads: Reads) -> Float[Tensor, "batch time d"]:
        """What the attention branch writes, having read u."""
        return self.residual.scale_attention(self.attention(rms_norm(u) * self.norm_scale, reads))

    def transform(
        self, z: Float[Tensor, "batch time d"], reads: Reads | None = None
    ) -> Float[Tensor, "batch time d"]:
        """What the MLP branch writes, having read z."""
        return self.residual.scale_mlp(self.mlp(rms_norm(z) * self.norm_scale, reads))

    def forward(self, x: Float[Tensor, "batch time d"], reads: Reads) -> Float[Tensor, "batch time d"]:
        u = self.residual.read(x, reads.x0)
        z = u + self.attend(u, reads)
        return z + self.transform(u if self.parallel else z, reads)
