"""Where the documents of packed rows begin and end.

A document begins where `starts` says so and at the first position of every row: rows never meet. The forms
below are what attention kernels take in place of a mask of time x time.
"""

import torch
from jaxtyping import Bool, Int, Int32
from torch import Tensor
from torch.nn.functional import pad

BUCKET = 64  # cu_seqlens has a multiple of this many entries, so that compiled shapes are few


def begins(starts: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch time"]:
    """`starts` with the first position of every row."""
    out = starts.clone()
    out[:, 0] = True
    return out


def ordinals(starts: Bool[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """The number of the document within its row that a position lies in, rising from 1."""
    return begins(starts).cumsum(dim=1)


def lengths(starts: Bool[Tensor, "batch time"]) -> list[int]:
    """Tokens of every document, row after row. Waits for the device that `starts` is on."""
    ends = pad(_first_positions(starts), (0, 1), value=starts.numel())
    return ends.diff().tolist()


def cu_seqlens(starts: Bool[Tensor, "batch time"], longest: int) -> Int32[Tensor, " entries"]:
    """[0, end of the first document, ..., tokens], then `tokens` again up to a multiple of 64 entries.

    The padding is documents of no tokens; zeros in its place would be documents of negative length. Waits
    for the device that `starts` is on.
    """
    first = _first_positions(starts)
    total = starts.numel()
    padding = -(len(first) + 1) % BUCKET
    out = pad(first, (0, 1 + padding), value=total).to(torch.int32)
    measured = int(out.diff().max())
    assert measured <= longest, f"a document of {measured} tokens, but at most {longest} were promised"
    return out


def _first_positions(starts: Bool[Tensor, "batch time"]) -> Int[Tensor, " documents"]:
    return begins(starts).flatten().nonzero().squeeze(1)
