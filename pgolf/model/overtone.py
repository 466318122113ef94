"""Overtone: the embedding begins with a spectrum that falls as 1 / sqrt(k).

    E = U S V^T (freshly drawn)        S_k <- S_1 k^(-power), k = 1, 2, ...

The directions stay Gaussian, the largest singular value stays what it was, all others shrink: few directions
carry most of it, as in a trained table (the 1.1748 record; dropped by PR 162 with no loss that was seen).
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.section import Section


class Overtone(Section):
    power: float = Field(0.5, gt=0)

    @torch.no_grad()
    def shape(self, table: Float[Tensor, "rows cols"]) -> None:
        """Give a drawn table the falling spectrum, in place."""
        u, s, vt = torch.linalg.svd(table, full_matrices=False)
        k = torch.arange(1, len(s) + 1, dtype=s.dtype, device=s.device)
        table.copy_((u * (s[0] * k**-self.power)) @ vt)
