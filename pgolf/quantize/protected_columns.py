"""AWQ-lite: the columns that matter most get a finer step, in the same solve (PR 1908).

    score(group) = sum_{j in group} sqrt(H_jj) mean_r |W_rj|          groups of contiguous columns
    step_rj      = step_r 2^(k / 8),  k = round(8 log2(qmax / qmax'))  qmax' = 2^(bits - 1) - 1; the clip stays

Activations say which columns an output is made of; a few of them at eight bits cost little. Scores are compared
within a matrix, or, as in the records, over all of them, where the README said otherwise than the code: then one matrix
has the one group. The finer step is a column step of pgolf.formats.quantized, so that decoding knows nothing of
protection, and stored as one more small array of zeros and k.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from pgolf.formats.quantized import STEPS_PER_OCTAVE
from pgolf.section import Section


class ProtectedColumns(Section):
    group: int = Field(64, ge=1)  # contiguous columns
    top_k: int = Field(1, ge=1)  # groups
    bits: int = Field(8, ge=3, le=8)  # of protected columns
    scope: Literal["per_matrix", "global"] = "per_matrix"  # where top_k are taken from

    def step_code(self, qmax: int) -> int:
        """Of a protected column on a grid of this half-range: 0 where the grid is as fine already."""
        return min(round(STEPS_PER_OCTAVE * math.log2(qmax / (2 ** (self.bits - 1) - 1))), 0)

    def columns(
        self, weights: Mapping[str, Tensor], hessians: Mapping[str, Tensor]
    ) -> dict[str, Bool[Tensor, " cols"]]:
        """Which columns of each matrix are protected."""
        scores = {
            (name, group): score
            for name, w in weights.items()
            for group, score in enumerate(self._scores(w, hessians[name]))
        }
        taken: dict[str, list[int]] = {name: [] for name in weights}
        left = dict.fromkeys(weights, self.top_k)
        everywhere = self.top_k
        for name, group in sorted(scores, key=lambda at: -scores[at]):
            if everywhere > 0 if self.scope == "global" else left[name] > 0:
                taken[name].append(group)
                left[name], everywhere = left[name] - 1, everywhere - 1
        return {
            n: torch.isin(torch.arange(w.shape[1]) // self.group, torch.tensor(taken[n]))
            for n, w in weights.items()
        }

    def _scores(self, w: Float[Tensor, "rows cols"], hessian: Float[Tensor, "cols cols"]) -> list[float]:
        """Of each group; the last may be narrower."""
        by_column = hessian.diagonal().double().sqrt() * w.double().abs().mean(0)
        return [float(part.sum()) for part in by_column.split(self.group)]
