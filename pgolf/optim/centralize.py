"""Gradient centralization: each row of a matrix's gradient minus its mean, before Muon (arXiv 2004.01461).

    g_i <- g_i - mean_j g_ij

The mean is over the inputs of one output. Part of PR 2101; alone it changed nothing (+0.00004, PR 2117). It
has no settings: on or off.
"""

from jaxtyping import Float
from torch import Tensor

from pgolf.section import Section


class Centralize(Section):
    def centered(self, g: Float[Tensor, "n rows cols"]) -> Float[Tensor, "n rows cols"]:
        return g - g.mean(dim=2, keepdim=True)
