"""Document-isolated causal attention with grouped key/value heads.

Position t attends to s iff s <= t and both lie in the same document; query head h reads key/value head
floor(h * kv_heads / heads); scores are scaled by 1/sqrt(dim). `attend` hands the mask to torch's
fused attention; `attend_reference` writes the definition out in float64 and is what it is tested against.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def visible(starts: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch time time"]:
    """visible[b, t, s]: may position t read position s?"""
    document: Int[Tensor, "batch time"] = starts.cumsum(dim=1)
    same = document.unsqueeze(2) == document.unsqueeze(1)
    return same & torch.ones(same.shape[1:], dtype=torch.bool, device=starts.device).tril()


def attend(
    q: Float[Tensor, "batch heads time dim"],
    k: Float[Tensor, "batch kv_heads time dim"],
    v: Float[Tensor, "batch kv_heads time dim"],
    mask: Bool[Tensor, "batch time time"],
) -> Float[Tensor, "batch heads time dim"]:
    """Masked softmax attention; `mask` is `visible(starts)`, computed once for all layers."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.unsqueeze(1), enable_gqa=True)


def attend_reference(
    q: Float[Tensor, "batch heads time dim"],
    k: Float[Tensor, "batch kv_heads time dim"],
    v: Float[Tensor, "batch kv_heads time dim"],
    starts: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch heads time dim"]:
    """The definition, one query position at a time, in float64. Slow and obvious."""
    batch, heads, time, dim = q.shape
    group = heads // k.shape[1]
    out = torch.zeros(batch, heads, time, dim, dtype=torch.float64)
    for b in range(batch):
        for t in range(time):
            begin = max(s for s in range(t + 1) if s == 0 or starts[b, s])
            for h in range(heads):
                keys, values = (
                    k[b, h // group, begin : t + 1].double(),
                    v[b, h // group, begin : t + 1].double(),
                )
                weight = torch.softmax(keys @ q[b, h, t].double() / math.sqrt(dim), dim=0)
                out[b, h, t] = weight @ values
    return out.to(q.dtype)
