"""Grids that end at an order statistic of the row: the best of five percentiles, or the row's maximum (PR 414).

    step_r(p) = quantile_p |W_r| / qmax, to the nearest 2^(k / 8),   p in .999 .9995 .9999 .99999 1
    p_r       = argmin_p sum_c (W_rc - step_r(p) q_rc)^2             the narrowest of equals

The published search took one percentile for the whole tensor, judged before the step was rounded to what is stored,
and let no step be under 1/31. A choice a row costs nothing, since the step is all that is stored; so it is made a
row at a time, with the step that weights will be multiplied by, and without a floor.

An entropy coder is paid for the histogram and not for the range, and the row's extremes say little of it: SDClip is the
better rule where packing is good. What a row of n weights costs here depends on n, because extremes grow with it.
"""

import math
from functools import cache
from statistics import NormalDist
from typing import Literal

import torch
from jaxtyping import Float, Int16
from torch import Tensor

from pgolf.formats.quantized import step_codes, step_codes_over, steps_of
from pgolf.quantize.row_grid import RowGrid
from pgolf.quantize.sd_clip import gaussian_bits

PERCENTILES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)


class ClipSearch(RowGrid):
    kind: Literal["clip_search"] = "clip_search"

    def expected_bits(self, cols: int) -> float:
        """A weight, of Gaussian rows of this length."""
        return _ideal_bits(self, cols)

    def row_codes(self, w: Float[Tensor, "rows cols"]) -> Int16[Tensor, " rows"]:
        """The step code of each row."""
        best = torch.full((len(w),), torch.inf, dtype=torch.float64, device=w.device)
        chosen = torch.zeros(len(w), dtype=torch.int16, device=w.device)
        for clip in _quantiles(w.double().abs()):
            row = step_codes(clip / self.qmax)
            step = steps_of(row).unsqueeze(1)
            error = (w.double() - step.double() * self.codes(w.float(), step)).square().sum(1)
            chosen, best = torch.where(error < best, row, chosen), torch.minimum(error, best)
        return chosen


class RowMax(RowGrid):
    """The step rounded up, so that no weight is clipped."""

    kind: Literal["row_max"] = "row_max"

    def expected_bits(self, cols: int) -> float:
        """A weight, of Gaussian rows of this length."""
        return _ideal_bits(self, cols)

    def row_codes(self, w: Float[Tensor, "rows cols"]) -> Int16[Tensor, " rows"]:
        """The step code of each row."""
        return step_codes_over(w.float().abs().amax(dim=1) / self.qmax)


def _quantiles(sizes: Float[Tensor, "rows cols"]) -> list[Float[Tensor, " rows"]]:
    """Of every row at PERCENTILES, between neighbours in proportion (torch.quantile takes no large matrix)."""
    ordered, last = sizes.sort(dim=1).values, sizes.shape[1] - 1
    out = []
    for p in PERCENTILES:
        below = min(int(p * last), last)
        above = min(below + 1, last)
        out.append(ordered[:, below].lerp(ordered[:, above], p * last - below))
    return out


@cache
def _ideal_bits(grid: "ClipSearch | RowMax", cols: int) -> float:
    """Entropy at the steps of a row whose values are the normal's quantiles, over a step's eight mantissas.

    The maximum of n draws is on average where the distribution of one is e^(-0.5615 / n).
    """
    half = [NormalDist().inv_cdf(0.5 + 0.5 * ((k + 0.5) / cols)) for k in range(cols - 1)]
    half.append(NormalDist().inv_cdf(0.5 + 0.5 * math.exp(-0.5615 / cols)))
    scales = 2.0 ** (torch.arange(8).double() / 64)
    steps = steps_of(grid.row_codes(torch.tensor(half).double() * scales.unsqueeze(1))).double() / scales
    return sum(gaussian_bits(float(step), grid.qmax) for step in steps) / len(scales)
