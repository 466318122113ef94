"""Quantized gates: head-gate matrices as small integers with one step a row (PR 1736).

    step_r = max |W_r| / qmax, rounded up to 2^(k / 8)        codes = round(W_r / step_r)

Too small for a Hessian and too many for float16: half the bytes, no measurable loss. The row's maximum and not
its deviation sets the step, because a gate of a dozen weights has no tail to clip.
"""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.formats.quantized import QuantizedMatrix, step_codes_over, steps_of
from pgolf.quantize.row_grid import RowGrid


class QuantGate(RowGrid):
    bits: int = Field(8, ge=2, le=8)

    def quantize(self, w: Float[Tensor, "rows cols"]) -> QuantizedMatrix:
        """Round to the nearest code; no weight is clipped beyond half a step."""
        row = step_codes_over(w.float().abs().amax(dim=1) / self.qmax)
        return QuantizedMatrix(self.codes(w.float(), steps_of(row).unsqueeze(1)).short(), row)
