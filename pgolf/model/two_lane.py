"""Two-lane parallel residual: from a late layer on attention and MLP keep streams of their own.

    a = alpha * Attn(n(m0 lane0 + m1 x0))        b = mu * MLP(n(lane1))
    lane0 <- rho0 lane0 + p00 a + p10 b          lane1 <- rho1 lane1 + p01 a + p11 b

Both lanes begin as the stream, both branches read the lanes as they were, U-Net skips go into lane0 only, and
at the end the lanes are merged. rho starts at 1.1, p at 1; p is [layer, source, target] with source 0 =
attention (PR 1529, 1530; -0.002 BPB). The tables have a row for every block, as the published counts do.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pgolf.model.block import Block
from pgolf.model.reads import Reads
from pgolf.model.roles import Role
from pgolf.section import Section

Lanes = tuple[Float[Tensor, "batch time d"], Float[Tensor, "batch time d"]]
Merge = Literal["mean", "attention", "mlp", "learned"]


class TwoLane(Section):
    kind: Literal["two_lane"] = "two_lane"
    from_layer: int = Field(8, ge=0)
    merge: Merge = "mean"  # of the lanes at the end: their mean, one of them, or a learned blend
    keep: float = 1.1  # initial rho
    route: float = 1.0  # initial p
    cross_route: float = 1.0  # initial p from a branch to the other's lane

    def build(self, layers: int) -> "TwoLaneModule":
        return TwoLaneModule(layers, self.from_layer, self.merge, self.keep, self.route, self.cross_route)


class TwoLaneModule(nn.Module):
    ROLES = {"rho": Role.CONTROL, "p": Role.CONTROL, "blend": Role.CONTROL}

    def __init__(
        self, layers: int, from_layer: int, merge: Merge, keep: float, route: float, cross_route: float
    ) -> None:
        super().__init__()
        self.from_layer, self.merging = from_layer, merge
        self.initial = (keep, route, cross_route)
        self.rho = nn.Parameter(torch.empty(layers, 2))
        self.p = nn.Parameter(torch.empty(layers, 2, 2))
        self.blend = nn.Parameter(torch.empty(())) if merge == "learned" else None

    def reset(self, generator: torch.Generator) -> None:
        keep, route, cross = self.initial
        with torch.no_grad():
            self.rho.fill_(keep)
            self.p.copy_(torch.tensor([[route, cross], [cross, route]]).expand_as(self.p))
            if self.blend is not None:
                self.blend.fill_(0.5)

    def forward(self, lanes: Lanes, layer: int, block: Block, reads: Reads) -> Lanes:
        lane0, lane1 = lanes
        a = block.attend(block.residual.read(lane0, reads.x0), reads)
        b = block.transform(lane1, reads)
        rho, p = self.rho[layer].to(a.dtype), self.p[layer].to(a.dtype)
        return (
            rho[0] * lane0 + p[0, 0] * a + p[1, 0] * b,
            rho[1] * lane1 + p[0, 1] * a + p[1, 1] * b,
        )

    def merge(self, lanes: Lanes) -> Float[Tensor, "batch time d"]:
        """The stream that the lanes end in."""
        lane0, lane1 = lanes
        if self.merging == "attention":
            return lane0
        if self.merging == "mlp":
            return lane1
        if self.blend is None:
            return (lane0 + lane1) / 2
        share = self.blend.to(lane0.dtype)
        return share * lane0 + (1 - share) * lane1
