"""The kernels behind `softcap_cross_entropy`: a row of logits a program, 1,024 columns at a time, in float32.

tanh is written 2 sigmoid(2x) - 1, whose derivative 4 sigmoid (1 - sigmoid) needs no second exponential. The
log-sum-exp streams: the largest score so far and the sum of exponentials relative to it.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import torch
import triton.language as tl
from torch import Tensor

from pgolf.kernels.jit import jit

COLUMNS = 1024
WARPS = 4
LOWEST = tl.constexpr(-3.0e38)  # in place of -inf, so that a block of scores that all are -inf is no 0 / 0


def forward(logits: Tensor, targets: Tensor, up: float | None, down: float | None) -> tuple[Tensor, Tensor]:
    """(nats, lse) in float32."""
    logits = _rows(logits)
    tokens, vocab = logits.shape
    nats, lse = (torch.empty(tokens, device=logits.device, dtype=torch.float32) for _ in range(2))
    with torch.cuda.device_of(logits):
        _forward[(tokens,)](
            logits, targets.contiguous(), nats, lse, logits.stride(0), up or 1.0, down or 1.0,
            VOCAB=vocab, CAPPED=up is not None, COLUMNS=COLUMNS, num_warps=WARPS, enable_fp_fusion=True,
        )  # fmt: skip
    return nats, lse


def backward(
    grad_nats: Tensor,
    grad_lse: Tensor,
    logits: Tensor,
    targets: Tensor,
    lse: Tensor,
    up: float | None,
    down: float | None,
) -> Tensor:
    """The gradient of the logits, in their precision."""
    logits = _rows(logits)
    tokens, vocab = logits.shape
    out = logits.new_empty(logits.shape)
    with torch.cuda.device_of(logits):
        _backward[(tokens,)](
            grad_nats.contiguous(), grad_lse.contiguous(), logits, targets.contiguous(), lse, out,
            logits.stride(0), up or 1.0, down or 1.0,
            VOCAB=vocab, CAPPED=up is not None, COLUMNS=COLUMNS, num_warps=WARPS, enable_fp_fusion=True,
        )  # fmt: skip
    return out


def _rows(logits: Tensor) -> Tensor:
    return logits if logits.stride(1) == 1 else logits.contiguous()


@jit
def _share(z, up, down):
    return tl.sigmoid(z * tl.where(z > 0, 2.0 / up, 2.0 / down))


@jit
def _softcap(z, up, down, CAPPED: tl.constexpr):  # noqa: N803
    """u"""
    u = z
    if CAPPED:
        u = tl.where(z > 0, up, down) * (2.0 * _share(z, up, down) - 1.0)
    return u


@jit
def _slope(z, up, down, CAPPED: tl.constexpr):  # noqa: N803
    """du/dz"""
    slope = 1.0
    if CAPPED:
        share = _share(z, up, down)
        slope = 4.0 * share * (1.0 - share)
    return slope


@jit
def _forward(
    logits, targets, nats, lse, stride, up, down,
    VOCAB: tl.constexpr, CAPPED: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    highest = LOWEST
    total = 0.0
    for at in range(0, VOCAB, COLUMNS):
        column = at + tl.arange(0, COLUMNS)
        inside = column < VOCAB
        z = tl.load(logits + row * stride + column, mask=inside, other=0.0).to(tl.float32)
        u = tl.where(inside, _softcap(z, up, down, CAPPED), float("-inf"))
        higher = tl.maximum(highest, tl.max(u, 0))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(u - higher), 0)
        highest = higher
    sum_exp = highest + tl.log(total)
    target = tl.load(targets + row)
    known = (target >= 0) & (target < VOCAB)
    z = tl.load(logits + row * stride + target, mask=known, other=float("nan")).to(tl.float32)
    tl.store(nats + row, sum_exp - _softcap(z, up, down, CAPPED))
    tl.store(lse + row, sum_exp)


@jit
def _backward(
    grad_nats, grad_lse, logits, targets, lse, out, stride, up, down,
    VOCAB: tl.constexpr, CAPPED: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    sum_exp = tl.load(lse + row)
    of_nats = tl.load(grad_nats + row)
    of_both = of_nats + tl.load(grad_lse + row)
    for at in range(0, VOCAB, COLUMNS):
        column = at + tl.arange(0, COLUMNS)
        inside = column < VOCAB
        z = tl.load(logits + row * stride + column, mask=inside, other=0.0).to(tl.float32)
        share = tl.exp(_softcap(z, up, down, CAPPED) - sum_exp)
        grad = of_both * share - tl.where(column == target, of_nats, 0.0)
        grad *= _slope(z, up, down, CAPPED)
        tl.store(out + row * VOCAB + column, grad.to(out.dtype.element_ty), mask=inside)
