"""Logit softcap: z <- cap * tanh(z / cap). 30 in every float record; flat around it.

`sides` makes it asymmetric, by two learned numbers that begin as this.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.model.asymmetric_softcap import AsymmetricSoftcap
from pgolf.section import Section


class Softcap(Section):
    cap: float = Field(30.0, gt=0)
    sides: AsymmetricSoftcap | None = None


def softcap(z: Float[Tensor, "*b v"], cap: float) -> Float[Tensor, "*b v"]:
    return cap * torch.tanh(z / cap)
