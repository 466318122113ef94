"""SDClip: a symmetric grid per row whose half-range is a number of row standard deviations (PR 1394).

    step_r = clip_sigmas * std(W_r) / qmax        qmax = 2^(bits - 1) - 1, the step to the nearest 2^(k / 8)

Sigmas rather than the row maximum: one outlier must not set the step of its whole row, and the narrow
histogram is what the entropy coder is paid by. (bits, clip) and (bits', clip * qmax'/qmax) are the same
grid; a Gaussian weight costs about 2.05 + log2(qmax / clip_sigmas) bits.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int16
from pydantic import Field
from torch import Tensor

from pgolf.formats.quantized import step_codes
from pgolf.quantize.row_grid import RowGrid


class SdClip(RowGrid):
    kind: Literal["sd_clip"] = "sd_clip"
    clip_sigmas: float = Field(12.85, gt=0)  # half-range of the grid

    @property
    def entropy_bits(self) -> float:
        """Of a standard Gaussian rounded to the grid's steps and clipped at its ends."""
        return gaussian_bits(self.clip_sigmas / self.qmax, self.qmax)

    def expected_bits(self, cols: int) -> float:
        """A weight, of Gaussian rows of any length."""
        return self.entropy_bits

    def row_codes(self, w: Float[Tensor, "rows cols"]) -> Int16[Tensor, " rows"]:
        """The step code of each row: the precision it is stored and used in."""
        wide = w.double()
        spread = wide.std(dim=1, correction=0)
        # a row that does not vary, as one of one weight, ends at its maximum
        spread = torch.where(spread > 0, spread, wide.abs().amax(dim=1) / self.clip_sigmas)
        return step_codes(self.clip_sigmas * spread / self.qmax)


def gaussian_bits(step: float, qmax: int) -> float:
    """Entropy of a standard Gaussian rounded to multiples of `step` and clipped at `qmax` of them."""
    edges = [-math.inf, *((q + 0.5) * step for q in range(-qmax, qmax)), math.inf]
    below = [0.5 * (1 + math.erf(edge / math.sqrt(2))) for edge in edges]
    shares = [b - a for a, b in pairwise(below)]
    return -sum(p * math.log2(p) for p in shares if p > 0)
