"""Two matrices around a squared (leaky) ReLU.

    MLP(y) = Wdown phi(Wup y)        phi(x) = (x if x > 0 else slope * x)^2

slope 0 is the baseline's relu^2; 0.5 is worth about -0.002 BPB at full scale (PR 493, 549).
"""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.linear import Linear
from pgolf.model.roles import Role
from pgolf.section import RuleBroken, Section


class Mlp(Section):
    mult: float = Field(2.0, gt=0, le=16)  # hidden width as a multiple of the model width
    negative_slope: float = Field(0.0, ge=0, le=1)

    def hidden(self, width: int) -> int:
        """Hidden width. Raises RuleBroken if mult does not make it a whole number."""
        hidden = self.mult * width
        if hidden != int(hidden):
            raise RuleBroken(
                "mlp.mult times model.width is a whole number",
                f"mult={self.mult}, width={width}",
                f"mult={round(hidden) / width:g}",
            )
        return int(hidden)

    def build(self, width: int) -> "MlpModule":
        return MlpModule(width, self.hidden(width), self.negative_slope)


class MlpModule(nn.Module):
    def __init__(self, width: int, hidden: int, negative_slope: float) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.up = Linear(width, hidden, Role.MLP)
        self.down = Linear(hidden, width, Role.MLP, zero=True)

    def forward(self, y: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time width"]:
        return self.down(F.leaky_relu(self.up(y), self.negative_slope).square())
