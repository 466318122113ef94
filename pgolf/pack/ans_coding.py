"""The encoder of pgolf.formats.ans: how each array is coded, and what that costs.

A matrix is fitted in every way that the decoder knows (a histogram; one sigma; sigmas by row, by column,
by both; each with eight shapes) and takes the cheapest, side information included. Costs are read off the
very tables that code the values, through counts of magnitudes by row, by column and by level: a value is
looked at a few times, whatever the number of candidates. `estimate_bytes` is the cost of the chosen fit
without the coding.

Encoding is the decoder's own code, run over a stream whose answers are known: the format is written once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from pgolf.formats.ans import HISTOGRAM, LARGE, LEVELS, MODEL, UNIT, Reader, power, table

Values = NDArray[np.int64]
FINE = 64  # magnitudes below are counted one by one, those above eight to the octave
BINS = FINE + 8 * 14


class _Writer(Reader):
    """A reader that is told what it reads, and remembers by which tables."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.script: list[Values] = []
        self.drawn: list[tuple[NDArray[np.int32], Any]] = []

    def told(self, *answers: int | NDArray[Any]) -> None:
        self.script += [np.atleast_1d(np.asarray(a, np.int64)) for a in answers]

    def number(self, key: str) -> int:
        self.script[0] = self.script[0] - self.last.get(key, 0)
        return super().number(key)

    def values(self, largest: int, of: Any, n: int, shift: int = 0) -> Values:
        out, self.script[0] = self.script[0][:n], self.script[0][n:]
        assert len(out) == n
        if not len(self.script[0]):
            del self.script[0]
        high = out + (1 << shift >> 1) >> shift
        escaped = np.abs(high) > largest
        self._drew(np.where(escaped, largest + 1, high) + largest, of)
        if shift:
            self._drew(out + (1 << shift >> 1) & (1 << shift) - 1, MODEL.Uniform(1 << shift))
        if escaped.any():
            plain, rest = MODEL.Uniform(1 << 16), out[escaped]
            self._drew(rest & 0xFFFF, plain)
            self._drew((rest >> 16) + (1 << 15) & 0xFFFF, plain)
        return out

    def _drew(self, symbols: Values, of: Any) -> None:
        self.drawn.append((symbols.astype(np.int32), of))

    def data(self) -> bytes:
        coder = constriction.stream.stack.AnsCoder()
        for symbols, of in reversed(self.drawn):
            coder.encode_reverse(symbols, of)
        return coder.get_compressed().astype("<u4").tobytes()


@dataclass(frozen=True)
class Fit:
    """A way to code an array: what the reader will be told, and its length in bits by the tables' own
    frequencies. `side` is the part that describes the array rather than lists its values."""

    model: str
    answers: tuple[int | NDArray[Any], ...]
    bits: float
    side: float


FAR = 1 << 30  # numbers of a header are nearer to 0
HEADER_BITS = 3.0  # of a number in a header, about


EDGES = np.array([*range(FINE), *(int(power(48 + i)) for i in range(BINS - FINE + 1))])


@cache
def _bin_of() -> NDArray[np.uint8]:
    """The bin of every magnitude that int16 can have."""
    return (np.searchsorted(EDGES, np.arange((1 << 15) + 1), "right") - 1).astype(np.uint8)


def _bins(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.int8 or values.dtype == np.int16:
        return _bin_of()[np.abs(values).view(f"u{values.itemsize}")]
    return (np.searchsorted(EDGES[:-1], np.abs(values.astype(np.int64)), "right") - 1).astype(np.uint8)


@cache
def _samples() -> tuple[Values, NDArray[np.float32]]:
    """Magnitudes that stand for the bins, and the matrix that averages over those of a bin."""
    points = [
        np.unique(np.linspace(a, b - 1, 8).astype(np.int64))
        for a, b in zip(EDGES[:-1].tolist(), EDGES[1:].tolist(), strict=True)
    ]
    mean = np.repeat(np.eye(BINS), [len(p) for p in points], axis=1)
    return np.concatenate(points), (mean / mean.sum(1, keepdims=True)).astype(np.float32)


@cache
def _bits(level: int, shape: int) -> NDArray[np.float32]:
    """What one value of each bin costs, in bits, with its escape and its plain bits."""
    shift = max((level - LARGE >> 3) + 1, 0)
    frequencies = table(level - 8 * shift, shape)
    largest = len(frequencies) // 2 - 1
    points, mean = _samples()
    high = np.minimum(points + (1 << shift >> 1) >> shift, largest + 1)
    bits = 24 - np.log2(frequencies[high + largest]) + shift + 32 * (high > largest)
    return mean @ bits.astype(np.float32)


@cache
def _costs(shape: int, low: int, high: int) -> NDArray[np.float32]:
    """Bits by bin and level, for the levels low <= level < high."""
    return np.stack([_bits(level, shape) for level in range(low, high)], axis=1)


def fit_vector(values: NDArray[Any], kind: str = "vector") -> Fit:
    """The cheapest rate of following, shape and sigma."""
    v = values.astype(np.int64)
    if not len(v):
        return Fit(kind, (), 0.0, 0.0)
    gain, start, shape, level, bits = _follow(v)
    residual = _residuals(v, start, gain)
    return Fit(kind, (start, gain, shape, level, residual), bits + 4 * HEADER_BITS, bits + 4 * HEADER_BITS)


def _follow(v: Values) -> tuple[int, int, int, int, float]:
    """Gain, start, shape and level that make the residuals of a vector cheapest, and their bits."""
    best = (0, 0, 0, 0, np.inf)
    for gain in range(6):
        start = min(max(round(float(v[: 1 << gain].mean())), -FAR), FAR)
        bits, shape, level = _one_sigma(np.bincount(_bins(v - _predictions(v, start, gain)), minlength=BINS))
        if bits < best[4]:
            best = gain, start, shape, level, bits
    return best


def _predictions(v: Values, start: int, gain: int) -> Values:
    """Nearly what Reader.vector adds residuals to: without the rounding of its level to 1/256."""
    rate = 2.0**-gain
    after, _ = lfilter([rate], [1, rate - 1], v, zi=[(1 - rate) * start])
    return np.rint(np.concatenate([[start], after[:-1]])).astype(np.int64)


def _residuals(v: Values, start: int, gain: int) -> Values:
    """What Reader.vector adds to its levels."""
    level, out = start << 8, np.empty_like(v)
    for i, now in enumerate(v.tolist()):
        out[i] = now - (level + 128 >> 8)
        level += (now << 8) - level >> gain
    return out


def _guess(counts: NDArray[Any]) -> NDArray[np.int64]:
    """A level near the cheapest for values of these counts by bin (the last axis)."""
    mean = counts @ ((EDGES[:-1] + EDGES[1:] - 1) / 2.0) / counts.sum(-1)
    return np.rint(8 * np.log2(mean + 0.05)).astype(np.int64) + UNIT + 2


def _one_sigma(counts: NDArray[Any]) -> tuple[float, int, int]:
    """Bits, shape and level of the cheapest table for values of these counts by bin."""
    guess = int(_guess(counts[None])[0])
    low, high = min(max(guess - 12, 0), LEVELS - 16), min(max(guess + 12, 16), LEVELS)
    tried = [(counts @ _costs(shape, low, high), shape) for shape in range(HISTOGRAM)]
    return min((float(bits.min()), shape, low + int(bits.argmin())) for bits, shape in tried)


def fit_matrix(values: NDArray[Any]) -> Fit:
    """The cheapest of one sigma, sigmas by row, by column and by both, and a histogram."""
    rows, cols = values.shape
    if not values.size:
        return Fit("empty", (), 0.0, 0.0)
    bins = _bins(values)
    wide = int(bins.max()) + 1
    by_row, by_col = _counts(bins, np.zeros(cols, int), wide), _counts(bins.T, np.zeros(rows, int), wide)
    bits, shape, level = _one_sigma(np.pad(by_row.sum((0, 1)), (0, BINS - wide)))
    fits = [Fit("one", (shape, level, 0, values.ravel()), bits + 3 * HEADER_BITS, 3 * HEADER_BITS)]
    flat = np.zeros(1, int)
    row, col = _solve(by_row, flat, shape, level), _solve(by_col, flat, shape, level)
    plans = [(row, None), (None, col)]
    if min(row.bits, col.bits) < bits:
        first = min(row, col, key=lambda axis: axis.bits)
        for _ in range(1 if values.size > SMALL else 2):
            if first is not row:
                row = _solve(_counts(bins, col.groups, wide), col.offsets, shape, level)
                col = _solve(_counts(bins.T, row.groups, wide), row.offsets, shape, level)
            else:
                col = _solve(_counts(bins.T, row.groups, wide), row.offsets, shape, level)
                row = _solve(_counts(bins, col.groups, wide), col.offsets, shape, level)
        plans.append((row, col))
    fits += [_by_axes(values, bins, a, b) for a, b in plans]
    return min(fits, key=lambda fit: fit.bits)


SMALL = 1 << 18


@dataclass(frozen=True)
class _Axis:
    """Levels of an axis's lines, base + stride * steps, and the bits of all that follows from them."""

    base: int
    stride: int
    steps: Values
    bits: float

    @property
    def offsets(self) -> Values:
        return self.stride * np.unique(self.steps)

    @property
    def groups(self) -> Values:
        return np.unique(self.steps, return_inverse=True)[1]


def _counts(bins: NDArray[np.uint8], groups: Values, wide: int) -> Values:
    """How often each line has each bin in each group of columns: [lines, groups, bins]."""
    lines, n = len(bins), int(groups.max()) + 1
    at = (np.arange(lines)[:, None] * n + groups) * wide + bins
    return np.bincount(at.ravel(), minlength=lines * n * wide).reshape(lines, n, wide)


def _solve(counts: Values, offsets: Values, shape: int, level: int) -> _Axis:
    """Levels of lines that code values of these counts cheapest, where a value's level is its line's plus
    its group's offset; what the levels cost themselves is part of the choice."""
    lines, _, wide = counts.shape
    guess = _guess(np.pad(counts.sum(1), [(0, 0), (0, BINS - wide)]))
    low = int(np.clip(guess.min() - offsets.max() - 8, level - 64, level))
    high = int(np.clip(guess.max() - offsets.min() + 9, level + 1, level + 64))
    grid = np.arange(low, high)
    at = np.clip(grid + offsets[:, None], 0, LEVELS - 1)
    table = _costs(shape, 0, LEVELS)[:wide, at].transpose(1, 0, 2).reshape(-1, len(grid))
    costs = counts.reshape(lines, -1).astype(np.float32) @ table.astype(np.float32)
    n = counts[0].sum()
    best = None
    for stride in {_stride(int(n)), 2 * _stride(int(n))}:
        base = level
        offered = np.flatnonzero((grid - base) % stride == 0)
        offer, cost = (grid[offered] - base) // stride, costs[:, offered]
        pick = cost.argmin(1)
        for _ in range(3):
            steps = offer[pick]
            gain, start, s, lv, side = _follow(steps)
            total = float(np.take_along_axis(cost, pick[:, None], 1).sum()) + side + 5 * HEADER_BITS
            if best is None or total < best.bits:
                best = _Axis(base, stride, steps, total)
            away = np.abs(offer - _predictions(steps, start, gain)[:, None])
            pick = (cost + _bits(lv, s)[np.minimum(away, FINE)]).argmin(1)
    assert best is not None
    return best


def _stride(n: int) -> int:
    """A line of n values knows log2 sigma to 0.7 / sqrt(n): levels as fine as pays."""
    return 1 if n > 300 else 2 if n > 80 else 4


def _by_axes(values: NDArray[Any], bins: NDArray[np.uint8], row: _Axis | None, col: _Axis | None) -> Fit:
    """The fit with these axes: the best shape for the levels they make, and the whole cost."""
    base = [axis.base for axis in (row, col) if axis][-1]
    levels = np.full(values.shape, base)
    name, side, answers = [], 4 * HEADER_BITS, []
    for axis, at, word in ((row, (slice(None), None), "rows"), (col, slice(None), "columns")):
        if axis:
            levels += (axis.stride * axis.steps)[at]
            fit = fit_vector(axis.steps)
            side += fit.bits + HEADER_BITS
            answers += [axis.stride, *fit.answers]
            name.append(word)
    flat = levels.clip(0, LEVELS - 1).astype(np.uint8).ravel()
    wide = int(bins.max()) + 1
    counts = np.bincount(flat.astype(np.intp) * wide + bins.ravel(), minlength=LEVELS * wide).reshape(
        LEVELS, wide
    )
    used = np.flatnonzero(counts.any(1))
    bits, shape = min(
        (sum(float(counts[level] @ _bits(level, shape)[:wide]) for level in used.tolist()), shape)
        for shape in range(HISTOGRAM)
    )
    order = np.argsort(flat, kind="stable")
    by = (row is not None) + 2 * (col is not None)
    return Fit(" and ".join(name), (shape, base, by, *answers, values.ravel()[order]), bits + side, side)


def _fit(a: NDArray[Any]) -> Fit:
    return fit_vector(a.ravel()) if a.ndim < 2 else fit_matrix(a.reshape(a.shape[0], prod(a.shape[1:])))


def encode_arrays(arrays: Sequence[NDArray[Any]]) -> bytes:
    """One stream of these arrays, for `decode_arrays` with their shapes."""
    writer = _Writer()
    for a in arrays:
        fit = _fit(a)
        writer.told(*fit.answers)
        writer.array(a.shape)
        assert not writer.script
    return writer.data()


def estimate_bytes(array: NDArray[Any]) -> float:
    return _fit(array).bits / 8
