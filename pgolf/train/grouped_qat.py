"""Training with ternary or binary weights: every forward applies W = q alpha / mean |q|, gradients go straight through.

    alpha = mean |w| of `group` consecutive weights       (float16, as stored)
    ternary   q = clamp(round(w / alpha), -1, 1)          about 1.6 bits a weight
    binary    q = sign(w), sign(0) = 1                    1 bit

From step 0 (BitNet b1.58, https://arxiv.org/abs/2402.17764; PR 640): these weights are too coarse to be found at
the end of a run. The weights underneath only remember which way each is drifting, so they are no network: probes
and gates score the rounded one, and the checkpoint holds it. Nothing is lost by that, since rounded weights round
to themselves: the ternary quantizer stores exactly what was trained, and `prequant_bpb` differs from
`quantized_bpb` by what happens to all other tensors.

Averages of the weights do not commute with the rounding (EMA: +0.12 BPB, PR 640), and decay only shifts alpha:
train with `optim.ema=null` and no decay of matrices.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.formats.grouped import Coder, applied, binary, ternary
from pgolf.formats.quantized import MOST_GROUP
from pgolf.section import Section
from pgolf.train.rounder import Rounder, straight_through


class Grouped(Section):
    """What the two share."""

    group: int = Field(128, ge=1, le=MOST_GROUP)  # consecutive weights with one magnitude
    from_fraction: float = Field(0.0, ge=0, lt=1)  # of the run

    @property
    def settles(self) -> bool:
        """Whether the rounded weights are what is kept at the end."""
        return True


class Ternary(Grouped):
    kind: Literal["ternary"] = "ternary"

    def rounding(self, number: int, device: torch.device) -> Rounder:
        return ToGroups(self.group, ternary)


class Binary(Grouped):
    kind: Literal["binary"] = "binary"

    def rounding(self, number: int, device: torch.device) -> Rounder:
        return ToGroups(self.group, binary)


class ToGroups(Rounder):
    def __init__(self, group: int, coder: Coder) -> None:
        self.group, self.coder = group, coder

    def __call__(self, w: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
        return straight_through(w, applied(w, self.group, self.coder))
