"""SDClip: a symmetric grid per row whose half-range is a number of row standard deviations (PR 1394).

    step_r = float16(clip_sigmas * std(W_r) / qmax)        qmax = 2^(bits - 1) - 1

Sigmas rather than the row maximum: one outlier must not set the step of its whole row, and the narrow
histogram is what the entropy coder is paid by. (bits, clip) and (bits', clip * qmax'/qmax) are the same
grid; a Gaussian weight costs about 2.05 + log2(qmax / clip_sigmas) bits.
"""

import torch
from jaxtyping import Float, Float16
from pydantic import Field
from torch import Tensor

from pgolf.section import Section

MIN_STEP = 2.0**-14  # smallest normal float16: smaller steps lose bits, then become 0


class SdClip(Section):
    bits: int = Field(6, ge=2, le=8)  # stored bits per weight, before entropy coding
    clip_sigmas: float = Field(12.85, gt=0)  # half-range of the grid

    @property
    def qmax(self) -> int:
        return int(2 ** (self.bits - 1) - 1)

    def steps(self, w: Float[Tensor, "rows cols"]) -> Float16[Tensor, "rows 1"]:
        """The step of each row, rounded to the precision it is stored and used in."""
        step = self.clip_sigmas * w.float().std(dim=1, keepdim=True, correction=0) / self.qmax
        return step.clamp(MIN_STEP, torch.finfo(torch.float16).max).half()

    def codes(self, w: Float[Tensor, "*any"], step: Float[Tensor, "*any_too"]) -> Float[Tensor, "*any"]:
        """Nearest codes on the grid, as floats; divides by the step that will be stored."""
        return (w / step).round().clamp(-self.qmax, self.qmax)
