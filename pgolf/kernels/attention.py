"""Document-isolated causal attention with grouped key/value heads.

Position t attends to s iff s <= t and both lie in the same document; query head h reads key/value head
floor(h * kv_heads / heads); scores are scaled by 1/sqrt(dim). What a backend needs to know of the documents
is prepared once a forward (`prepare`) and read by every layer (`attend`). `attend_reference` writes the
definition out in float64 and is what all of it is tested against.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


class Masked(NamedTuple):
    """Who may read whom, written out: for torch's attention with an explicit mask."""

    mask: Bool[Tensor, "batch time time"]


Layout = Masked


def prepare(starts: Bool[Tensor, "batch time"]) -> Layout:
    """The documents of a batch of rows, in the form that `attend` reads."""
    return Masked(visible(starts))


def visible(starts: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch time time"]:
    """visible[b, t, s]: may position t read position s?"""
    document: Int[Tensor, "batch time"] = starts.cumsum(dim=1)
    same = document.unsqueeze(2) == document.unsqueeze(1)
    return same & torch.ones(same.shape[1:], dtype=torch.bool, device=starts.device).tril()


def attend(
    q: Float[Tensor, "batch time heads dim"],
    k: Float[Tensor, "batch time kv_heads dim"],
    v: Float[Tensor, "batch time kv_heads dim"],
    layout: Layout,
) -> Float[Tensor, "batch time heads dim"]:
    """Softmax attention over what the layout lets each position read."""
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=layout.mask.unsqueeze(1),
        enable_gqa=True,
    )
    return out.transpose(1, 2)


def attend_reference(
    q: Float[Tensor, "batch time heads dim"],
    k: Float[Tensor, "batch time kv_heads dim"],
    v: Float[Tensor, "batch time kv_heads dim"],
    starts: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch time heads dim"]:
    """The definition, one query position at a time, in float64. Slow and obvious."""
    batch, time, heads, dim = q.shape
    group = heads // k.shape[2]
    out = torch.zeros(batch, time, heads, dim, dtype=torch.float64)
    for b in range(batch):
        for t in range(time):
            begin = max(s for s in range(t + 1) if s == 0 or starts[b, s])
            for h in range(heads):
                keys, values = (x[b, begin : t + 1, h // group].double() for x in (k, v))
                weight = torch.softmax(keys @ q[b, t, h].double() / math.sqrt(dim), dim=0)
                out[b, t, h] = weight @ values
    return out.to(q.dtype)
