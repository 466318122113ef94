"""Packed rows to try attention on, and its plain form in any precision."""

import math

import torch
from hypothesis import strategies as st

from pgolf.kernels.attention import visible


def rows_of(min_rows=1, max_rows=3, max_time=14):
    """Document starts of several rows; the first position of a row may or may not be marked."""
    shape = st.tuples(st.integers(min_rows, max_rows), st.integers(1, max_time))
    return shape.flatmap(
        lambda s: st.lists(
            st.lists(st.booleans(), min_size=s[1], max_size=s[1]), min_size=s[0], max_size=s[0]
        )
    ).map(torch.tensor)


def drawn(seed, starts, heads=1, kv_heads=1, dim=8, scale=2.0):
    """q, k, v in float32 for those rows."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(*starts.shape, h, dim) for h in (heads, kv_heads, kv_heads)]
    return [torch.randn(shape, generator=generator) * scale for shape in shapes]


def plain(q, k, v, starts):
    """Scores, mask, softmax and product one after another, in the precision of the inputs."""
    copies = q.shape[2] // k.shape[2]
    keys, values = (x.repeat_interleave(copies, dim=2).transpose(1, 2) for x in (k, v))
    scores = q.transpose(1, 2) @ keys.mT / math.sqrt(q.shape[3])
    hidden = ~visible(starts).unsqueeze(1)
    weight = torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1)
    return (weight @ values).transpose(1, 2)


def gradients(attention, qkv, upstream):
    """The output, and the gradients of its product with `upstream`."""
    leaves = [x.detach().clone().requires_grad_() for x in qkv]
    out = attention(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, upstream.to(out))
