"""Quantized gates: head-gate matrices as small integers with one float16 step a row (PR 1736).

    step_r = float16(max |W_r| / qmax)        codes = round(W_r / step_r)

Too small for a Hessian and too many for float16: half the bytes, no measurable loss. The row's maximum and not
its deviation sets the step, because a gate of a dozen weights has no tail to clip.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.formats.quantized import QuantizedMatrix
from pgolf.quantize.sd_clip import MIN_STEP
from pgolf.section import Section


class QuantGate(Section):
    bits: int = Field(8, ge=2, le=8)

    @property
    def qmax(self) -> int:
        return int(2 ** (self.bits - 1) - 1)

    def quantize(self, w: Float[Tensor, "rows cols"]) -> QuantizedMatrix:
        """Round to the nearest code; no weight is clipped beyond half a step."""
        widest = w.float().abs().amax(dim=1, keepdim=True) / self.qmax
        step = widest.clamp(MIN_STEP, torch.finfo(torch.float16).max).half()
        codes = (w.float() / step.float()).round().clamp(-self.qmax, self.qmax)
        return QuantizedMatrix(codes.to(torch.int8), step)
