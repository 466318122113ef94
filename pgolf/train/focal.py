"""Focal loss: (1 - p_target)^gamma CE, so that what is known already counts less.

https://arxiv.org/abs/1708.02002; gamma 2 there. No help in this regime: the measure is plain cross-entropy.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.section import Section

LEAST = 1e-7  # of 1 - p: the power's slope at 0 is infinite for gamma < 1


class Focal(Section):
    gamma: float = Field(2.0, gt=0)

    def factor(self, nats: Float[Tensor, "*tokens"]) -> Float[Tensor, "*tokens"]:
        """What each token's loss is multiplied by, from its cross-entropy; differentiable."""
        return (-torch.expm1(-nats)).clamp_min(LEAST).pow(self.gamma)
