"""Document-isolated causal attention with grouped key/value heads.

Position t attends to s iff s <= t and both lie in the same document; query head h reads key/value head
floor(h * kv_heads / heads); scores are scaled by 1/sqrt(dim). What a backend needs to know of the documents
is prepared once a forward (`prepare`) and read by every layer (`attend`). `attend_reference` writes the
definition out in float64 and is what all of it is tested against.

    sdpa              torch's attention with the mask written out               everywhere; short rows
    sdpa_documents    torch's causal attention, one document after the other    everywhere; not compiled
    flex              blocks of scores, compiled                                 GPUs that Triton compiles for
    torch_varlen, flash2, flash3    varlen kernels                               Ampere, Hopper
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from pgolf.kernels import flex, sdpa_documents, varlen
from pgolf.kernels.documents import ordinals

Backend = Literal["sdpa", "sdpa_documents", "flex", "torch_varlen", "flash2", "flash3"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


class Masked(NamedTuple):
    """Who may read whom, written out: for torch's attention with an explicit mask."""

    mask: Bool[Tensor, "batch time past"]  # all positions read, or the last of them


Layout = Masked | sdpa_documents.Split | flex.Blocks | varlen.Packed


def prepare(
    starts: Bool[Tensor, "batch time"],
    backend: Backend = "sdpa",
    longest: int | None = None,
    device: torch.device | str | None = None,
) -> Layout:
    """The documents of a batch of rows, in the form that the backend reads.

    `longest` promises that no document has more tokens (None: a row's length). `device` is where the layout
    is read (None: where `starts` is); with `starts` on the CPU no backend waits for a GPU.

    Raises:
        ImportError: the backend's package is not installed (pgolf.kernels.choice says so beforehand).
    """
    place = starts.device if device is None else torch.device(device)
    match backend:
        case "sdpa":
            return Masked(visible(starts.to(place)))
        case "sdpa_documents":
            return sdpa_documents.prepare(starts)
        case "flex":
            return flex.prepare(starts.to(place))
        case _:
            return varlen.prepare(starts, backend, longest or starts.shape[1], place)


def visible(starts: Bool[Tensor, "batch time"], since: int = 0) -> Bool[Tensor, "batch new time"]:
    """visible[b, t, s]: may position since + t read position s?"""
    document = ordinals(starts)
    same = document[:, since:].unsqueeze(2) == document.unsqueeze(1)
    return same & torch.ones(same.shape[1:], dtype=torch.bool, device=starts.device).tril(since)


def attend(
    q: Float[Tensor, "batch time heads dim"],
    k: Float[Tensor, "batch past kv_heads dim"],
    v: Float[Tensor, "batch past kv_heads dim"],
    layout: Layout,
) -> Float[Tensor, "batch time heads dim"]:
    """Softmax attention over what the layout lets each position read.

    Where the mask is written out, the positions that read may be the last of those that are read.
    """
    if isinstance(layout, varlen.Packed):
        return varlen.attend(q, k, v, layout)
    if isinstance(layout, flex.Blocks):
        return flex.attend(q, k, v, layout)
    if isinstance(layout, sdpa_documents.Split):
        return sdpa_documents.attend(q, k, v, layout)
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
    """The definition, one query position at a time, in float64. Slow and obvious; differentiable."""
    batch, time, heads, dim = q.shape
    group = heads // k.shape[2]
    rows = []
    for b in range(batch):
        for t in range(time):
            begin = max(s for s in range(t + 1) if s == 0 or starts[b, s])
            for h in range(heads):
                keys, values = (x[b, begin : t + 1, h // group].double() for x in (k, v))
                weight = torch.softmax(keys @ q[b, t, h].double() / math.sqrt(dim), dim=0)
                rows.append(weight @ values)
    return torch.stack(rows).view(q.shape).to(q.dtype)
