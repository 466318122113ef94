"""RMSNorm without weights: n(x) = x / sqrt(mean(x^2) + eps), over the last axis.

The gains live elsewhere (attention and MLP scales, QK gain, LN scale). eps is the float32 machine
epsilon, written out because frameworks disagree about their default; the mean is taken in float32.
"""

from jaxtyping import Float
from torch import Tensor, nn

EPS = 1.1920929e-07


def rms_norm(x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    wide = x.float()
    return (wide * (wide.square().mean(-1, keepdim=True) + EPS).rsqrt()).to(x.dtype)


class RmsNorm(nn.Module):
    """rms_norm as a module, so that its output can be observed."""

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return rms_norm(x)
