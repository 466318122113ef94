"""The kernel behind `fused_mlp`: a tiled product whose tiles pass through the activation on their way out.

    forward     acc = x Wup^T          pre = round(acc), post = phi(pre)       both written
    backward    acc = g Wdown          dpre = acc phi'(pre)                    pre read, dpre written

    phi(p) = l(p)^2        phi'(p) = 2 l(p) l'(p)        l(p) = p where p > 0, slope p elsewhere

The slope enters in `_leaky` alone, as a value and as its derivative; historic kernels had it in three places,
and changing one made training and evaluation two networks. As many programs as the GPU has multiprocessors go
through the tiles, all tiles of one block of rows one after another, so that the rows are read once.
Tiles come and go through tensor descriptors, which on Hopper are its copy engine; a width must be a multiple
of 16 bytes for that. `pre` is rounded before it is squared, as eager code does, and l(p) before its square.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from pgolf.kernels.jit import jit


class Tile(NamedTuple):
    """Of the output: rows x columns, `inner` of the summed dimension at a time."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


TILES = (  # timed once per shape; the first is what PR 1530 found best on an H100, the last fits every GPU
    Tile(256, 128, 64, warps=8, stages=4),
    Tile(256, 128, 64, warps=8, stages=3),
    Tile(128, 256, 64, warps=8, stages=3),
    Tile(128, 128, 64, warps=8, stages=4),
    Tile(128, 128, 64, warps=4, stages=3),
    Tile(64, 64, 32, warps=4, stages=3),
)
WITHOUT_GPU = 3  # programs, where kernels are interpreted
_fastest: dict[tuple[object, ...], Tile] = {}


def forward(x: Tensor, up: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """(pre, post) [rows, hidden] of x [rows, width] and up [hidden, width]."""
    pre, post = (x.new_empty(x.shape[0], up.shape[0]) for _ in range(2))
    _run(x, up, pre, post, slope, is_forward=True)
    return pre, post


def backward(grad: Tensor, down: Tensor, pre: Tensor, slope: float) -> Tensor:
    """dpre [rows, hidden] of the output's gradient [rows, width] and down [width, hidden]."""
    out = torch.empty_like(pre)
    _run(grad, down, pre, out, slope, is_forward=False)
    return out


def _run(a: Tensor, b: Tensor, pre: Tensor, out: Tensor, slope: float, is_forward: bool) -> None:
    a, b = a.contiguous(), b.contiguous()
    key = (is_forward, out.shape[1], a.shape[1], out.dtype, out.device)
    with torch.cuda.device_of(out):
        if key not in _fastest:
            _fastest[key] = _timed(a, b, pre, out, slope, is_forward)
        _launch(_fastest[key], a, b, pre, out, slope, is_forward)


def _timed(a: Tensor, b: Tensor, pre: Tensor, out: Tensor, slope: float, is_forward: bool) -> Tile:
    """The fastest tile for these shapes; the first one where there is nothing to choose."""
    if len(TILES) == 1:
        return TILES[0]

    def milliseconds(tile: Tile) -> float:
        try:
            return triton.testing.do_bench(lambda: _launch(tile, a, b, pre, out, slope, is_forward))
        except triton.runtime.errors.OutOfResources:  # a tile too large for this GPU
            return float("inf")

    return min(TILES, key=milliseconds)


def _launch(
    tile: Tile, a: Tensor, b: Tensor, pre: Tensor, out: Tensor, slope: float, is_forward: bool
) -> None:
    rows, columns = out.shape
    tiles = triton.cdiv(rows, tile.rows) * triton.cdiv(columns, tile.columns)
    programs = (
        torch.cuda.get_device_properties(out.device).multi_processor_count if out.is_cuda else WITHOUT_GPU
    )
    of_b = (tile.columns, tile.inner) if is_forward else (tile.inner, tile.columns)
    half = [tile.rows, tile.columns // 2]
    _kernel[(min(programs, tiles),)](
        TensorDescriptor.from_tensor(a, [tile.rows, tile.inner]), TensorDescriptor.from_tensor(b, list(of_b)),
        TensorDescriptor.from_tensor(pre, half), TensorDescriptor.from_tensor(out, half),
        rows, columns, min(programs, tiles), SLOPE=slope, FORWARD=is_forward, DEPTH=a.shape[1],
        ROWS=tile.rows, COLUMNS=tile.columns, INNER=tile.inner,
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=True,
    )  # fmt: skip


@jit
def _leaky(pre, SLOPE: tl.constexpr):  # noqa: N803
    """(l, dl/dp) in float32."""
    positive = pre > 0
    return tl.where(positive, pre, SLOPE * pre), tl.where(positive, 1.0, SLOPE)


@jit
def _finish(pre, out, acc, row, column, SLOPE: tl.constexpr, FORWARD: tl.constexpr):  # noqa: N803
    """Half a tile, from its sums to memory."""
    if FORWARD:
        rounded = acc.to(pre.dtype)
        value, _ = _leaky(rounded.to(tl.float32), SLOPE)
        value = value.to(out.dtype).to(tl.float32)
        pre.store([row, column], rounded)
        out.store([row, column], (value * value).to(out.dtype))
    else:
        value, slope = _leaky(pre.load([row, column]).to(tl.float32), SLOPE)
        out.store([row, column], (acc * (2.0 * value * slope)).to(out.dtype))


@jit
def _kernel(
    a, b, pre, out, rows, columns, programs,
    SLOPE: tl.constexpr, FORWARD: tl.constexpr, DEPTH: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,  # noqa: N803
):  # fmt: skip
    across = tl.cdiv(columns, COLUMNS)
    tiles = tl.cdiv(rows, ROWS) * across
    for tile in tl.range(tl.program_id(0), tiles, programs, flatten=True):
        row = (tile // across) * ROWS
        column = (tile % across) * COLUMNS
        acc = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
        for inner in range(0, DEPTH, INNER):
            left = a.load([row, inner])
            if FORWARD:
                acc = tl.dot(left, b.load([column, inner]).T, acc)
            else:
                acc = tl.dot(left, b.load([inner, column]), acc)
        halves = tl.permute(tl.reshape(acc, (ROWS, 2, COLUMNS // 2)), (0, 2, 1))
        first, second = tl.split(halves)
        _finish(pre, out, first, row, column, SLOPE, FORWARD)
        _finish(pre, out, second, row, column + COLUMNS // 2, SLOPE, FORWARD)
