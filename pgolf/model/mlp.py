"""Two matrices around a squared (leaky) ReLU.

    MLP(y) = Wdown phi(Wup y)        phi(x) = (x if x > 0 else slope * x)^2

slope 0 is the baseline's relu^2; 0.5 is worth about -0.002 BPB at full scale (PR 493, 549). Width and slope may
differ from block to block: learned slopes grew with depth, from near 0 to 0.47 over eleven layers, for no clear
gain (PR 1911, and the frozen profile of a PR 1089 descendant); narrow early blocks cost, narrow late ones
hardly (PR 2137).
"""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.kernels.fused_mlp import mlp
from pgolf.model.linear import Linear
from pgolf.model.reads import Reads
from pgolf.model.roles import Role
from pgolf.section import RuleBroken, Section


class Mlp(Section):
    mult: float = Field(2.0, gt=0, le=16)  # hidden width as a multiple of the model width
    negative_slope: float = Field(0.0, ge=0, le=1)
    layer_mults: tuple[Annotated[float, Field(gt=0, le=16)], ...] | None = None  # instead of mult, by block
    layer_slopes: tuple[Annotated[float, Field(ge=-1, le=1)], ...] | None = None  # instead of negative_slope

    def check(self, width: int, layers: int) -> None:
        """Raises RuleBroken unless it fits `layers` blocks of this width."""
        for name, given in (("layer_mults", self.layer_mults), ("layer_slopes", self.layer_slopes)):
            if given is not None and len(given) != layers:
                raise RuleBroken(
                    f"mlp.{name} has one entry for every stored block",
                    f"{len(given)} entries, {layers} blocks",
                    f"{layers} entries, or mlp.{name}=null",
                )
        for layer in range(layers if self.layer_mults is not None else 1):
            self.hidden(width, layer)

    def hidden(self, width: int, layer: int = 0) -> int:
        """Hidden width of a block. Raises RuleBroken if mult does not make it a whole number."""
        mult = self.mult if self.layer_mults is None else self.layer_mults[layer]
        hidden = mult * width
        if hidden != int(hidden):
            raise RuleBroken(
                "mlp.mult times model.width is a whole number",
                f"mult={mult}, width={width}",
                f"mult={round(hidden) / width:g}",
            )
        return int(hidden)

    def build(self, width: int, layer: int = 0) -> "MlpModule":
        """The MLP of stored block `layer`."""
        slope = self.negative_slope if self.layer_slopes is None else self.layer_slopes[layer]
        return MlpModule(width, self.hidden(width, layer), slope)


class MlpModule(nn.Module):
    def __init__(self, width: int, hidden: int, negative_slope: float) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.fused = False  # in training, by one kernel where it serves (Gpt.use_kernels)
        self.up = Linear(width, hidden, Role.MLP)
        self.down = Linear(hidden, width, Role.MLP, zero=True)

    def forward(
        self, y: Float[Tensor, "batch time width"], reads: Reads | None = None
    ) -> Float[Tensor, "batch time width"]:
        """`reads` brings adapters; without it there are none."""
        up, down = (reads.adapting("up"), reads.adapting("down")) if reads is not None else ((), ())
        if self.fused and torch.is_grad_enabled() and not (up or down):
            return mlp(y, self.up.applied(y.dtype), self.down.applied(y.dtype), self.negative_slope, True)
        return self.down(F.leaky_relu(self.up(y, *up), self.negative_slope).square(), *down)
