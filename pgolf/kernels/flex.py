"""Attention over the blocks of 128 x 128 scores that hold a visible pair (torch's flex_attention).

A block (i, j) of queries and keys is
    empty    j > i, or the last document of block j ended before the first of block i began
    full     j < i, and the first document of block j is the last of block i: no mask is computed there
    partial  otherwise
Documents are numbered upwards along a row, so the blocks' first and last numbers decide, and nothing of
time x time is written out (`create_block_mask` would). On CUDA the kernel is compiled by Triton, alone or
with the model around it; on the CPU torch has a forward only.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from pgolf.kernels.documents import ordinals

BLOCK = 128


class Blocks(NamedTuple):
    """Which blocks of scores to compute, and the rule inside the partial ones."""

    mask: BlockMask


def prepare(starts: Bool[Tensor, "batch time"]) -> Blocks:
    """Shapes follow those of `starts` alone, so nothing waits for the device."""
    document = ordinals(starts)
    partial, full = _blocks(document)
    mask = BlockMask.from_kv_blocks(
        *_listed(partial),
        *_listed(full),
        BLOCK_SIZE=BLOCK,
        mask_mod=lambda b, head, query, key: (key <= query) & (document[b, query] == document[b, key]),
        seq_lengths=(starts.shape[1], starts.shape[1]),
    )
    return Blocks(mask)


def attend(
    q: Float[Tensor, "batch time heads dim"],
    k: Float[Tensor, "batch time kv_heads dim"],
    v: Float[Tensor, "batch time kv_heads dim"],
    layout: Blocks,
) -> Float[Tensor, "batch time heads dim"]:
    plain = torch.compiler.is_compiling() or q.device.type == "cpu"  # inside a compiled model, or on the CPU
    run: Any = flex_attention if plain else _compiled()
    queries, keys, values = (x.transpose(1, 2) for x in (q, k, v))
    out = run(queries, keys, values, block_mask=layout.mask, enable_gqa=q.shape[2] != k.shape[2])
    return out.transpose(1, 2)


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)


def _blocks(
    document: Int[Tensor, "batch time"],
) -> tuple[Bool[Tensor, "batch queries keys"], Bool[Tensor, "batch queries keys"]]:
    """The partial and the full blocks."""
    time = document.shape[1]
    first = document[:, ::BLOCK]
    count = first.shape[1]
    ends = torch.arange(1, count + 1, device=document.device) * BLOCK - 1
    last = document[:, ends.clamp(max=time - 1)]
    block = torch.arange(count, device=document.device)
    earlier = block.unsqueeze(1) > block
    whole = (ends < time).unsqueeze(1)  # a block that is cut off has pairs outside the row
    visible = (first.unsqueeze(2) <= last.unsqueeze(1)) & (earlier | (block.unsqueeze(1) == block))
    full = (last.unsqueeze(2) == first.unsqueeze(1)) & earlier & whole
    return visible & ~full, full


def _listed(
    blocks: Bool[Tensor, "batch queries keys"],
) -> tuple[Int[Tensor, "batch 1 queries"], Int[Tensor, "batch 1 queries keys"]]:
    """Per row of blocks how many there are, and their columns first among all columns."""
    columns = blocks.int().argsort(dim=2, descending=True, stable=True)
    return blocks.sum(dim=2, dtype=torch.int32).unsqueeze(1), columns.to(torch.int32).unsqueeze(1)
