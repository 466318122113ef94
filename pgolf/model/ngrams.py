"""The tokens before each token, inside its document: what hashed n-gram tables are indexed by."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F


def preceding(
    tokens: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"], distance: int
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """The token `distance` positions before each, and where there is none.

    Where the document does not reach so far back, nor the row, the token is 0. In 64 bits: products of a
    token and a five-digit prime do not overflow. The historic code multiplied in 32 bits, which wrap from
    token 41,702 on (with the largest prime); below that the results are equal.
    """
    before, absent = tokens.long(), torch.zeros_like(starts)
    for _ in range(distance):
        before = F.pad(before, (1, -1))
        absent = F.pad(absent, (1, -1), value=True) | starts
    return before.masked_fill(absent, 0), absent
