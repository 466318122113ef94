"""Attention one document after the other: causal, so no mask is written out.

Work and memory are O(sum of length^2) and O(tokens), where a mask takes O(time^2) of both; a row of 98,304
tokens is no problem. Neighbours of equal length share a call, which makes rows of one document each one
call. The rows are split, not gathered: the gradient of a split is one concatenation. The lengths are part
of what a compiler would specialize on, so this form is for uncompiled runs (the CPU, mostly).
"""

from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pgolf.kernels.documents import lengths


class Split(NamedTuple):
    """Runs of (documents, tokens of each) in the order of the flattened rows."""

    runs: tuple[tuple[int, int], ...]


def prepare(starts: Bool[Tensor, "batch time"]) -> Split:
    return Split(tuple((len(list(run)), length) for length, run in groupby(lengths(starts))))


def attend(
    q: Float[Tensor, "batch time heads dim"],
    k: Float[Tensor, "batch time kv_heads dim"],
    v: Float[Tensor, "batch time kv_heads dim"],
    layout: Split,
) -> Float[Tensor, "batch time heads dim"]:
    assert not torch.compiler.is_compiling(), "sdpa_documents is compiled anew for every batch; name another"
    sizes = [documents * length for documents, length in layout.runs]
    runs = zip(layout.runs, *(x.flatten(0, 1).split(sizes) for x in (q, k, v)), strict=True)
    return torch.cat([_causal(shape, *parts) for shape, *parts in runs]).view(q.shape)


def _causal(
    shape: tuple[int, int],
    q: Float[Tensor, "tokens heads dim"],
    k: Float[Tensor, "tokens kv_heads dim"],
    v: Float[Tensor, "tokens kv_heads dim"],
) -> Float[Tensor, "tokens heads dim"]:
    """Documents of one length: `shape` is how many and how long."""
    queries, keys, values = (x.unflatten(0, shape).transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
    return out.transpose(1, 2).flatten(0, 1)
