"""How an array is best described to pgolf.formats.ans, and what that costs in bits.

A matrix is fitted in the ways that the reader knows: one sigma; sigmas by row, by column, by both; rows'
sigmas around those that the steps before it suggest; rows that resemble each other; a histogram; each with
eight shapes. The cheapest wins, what describes it included. Costs are read off the very tables that code the
values, through counts of magnitudes by line and level: a value is looked at some six times, whatever the
number of candidates, and the cost of a fit is its coded length but for the numbers of its header.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf.formats import ans
from pgolf.formats.ans import HISTOGRAM, LARGE, LEVELS, UNIT

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
FINE = 64  # magnitudes below are counted one by one; those above in bins of an eighth of an octave, then a quarter
EDGES = np.array(
    [
        *range(FINE),
        *(int(ans.power(i)) for i in range(48, 112)),
        *(int(ans.power(i)) for i in range(112, 250, 2)),
    ]
)
BINS = len(EDGES) - 1
MIDDLES = (EDGES[:-1] + EDGES[1:] - 1) / 2.0
BLOCK = 64  # lines that are counted at a time
MOST_COUNTS = 1 << 25  # of lines times bins: what has more is not worth the memory
FEW = 1 << 16  # values of a matrix that is looked at more often
GROUPS = 12  # that the other axis's lines are put in while an axis is solved
NUMBER = 4.0  # bits of a header's number, about
FAR = 1 << 30  # a header's numbers are nearer to 0


@dataclass(frozen=True)
class Fit:
    """A way to code an array.

    `header` answers the reader's questions before the values, `levels` (if they differ) sort the values.
    `bits` is the whole length by the tables' own frequencies, `side` the part that lists no values.
    """

    model: str
    header: tuple[int | NDArray[Any], ...]
    values: NDArray[Any]
    bits: float
    side: float
    levels: NDArray[np.uint8] | None = None

    def answers(self) -> Iterator[int | NDArray[Any]]:
        yield from self.header
        if self.values.size:
            order = slice(None) if self.levels is None else np.argsort(self.levels, kind="stable")
            yield self.values.ravel()[order]


# What values cost


@cache
def _bin_table() -> NDArray[np.uint8]:
    """The bin of every magnitude that int16 can have."""
    return (np.searchsorted(EDGES, np.arange((1 << 15) + 1), "right") - 1).astype(np.uint8)


def bins_of(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype in (np.int8, np.int16):
        return _bin_table()[np.abs(values).view(f"u{values.itemsize}")]
    if values.size < 1 << 14 and -(1 << 15) <= values.min(initial=0) <= values.max(initial=0) <= 1 << 15:
        return _bin_table()[np.abs(values)]
    return (np.searchsorted(EDGES[:-1], np.abs(values.astype(np.int64)), "right") - 1).astype(np.uint8)


@cache
def value_bits(shape: int) -> Floats:
    """Bits of a value by its bin and level, with its escape and its plain bits; a bin's are the mean over
    eight of its magnitudes."""
    members = [
        np.unique(np.linspace(a, b - 1, 8).astype(np.int64))
        for a, b in zip(EDGES[:-1].tolist(), EDGES[1:].tolist(), strict=True)
    ]
    first, magnitudes = np.cumsum([0] + [len(m) for m in members[:-1]]), np.concatenate(members)
    out = np.empty((BINS, LEVELS), np.float32)
    for level in range(LEVELS):
        shift = max((level - LARGE >> 3) + 1, 0)
        frequencies = ans.table(level - 8 * shift, shape)
        largest = len(frequencies) // 2 - 1
        half, bits = 1 << shift >> 1, np.zeros(len(magnitudes))
        for high in (magnitudes + half >> shift, -(half - magnitudes >> shift)):  # of +m and of -m
            bits += 24 - np.log2(frequencies)[np.minimum(high, largest + 1) + largest] + 32 * (high > largest)
        bits = bits / 2 + shift
        out[:, level] = np.add.reduceat(bits, first) / [len(m) for m in members]
    return out


def _guess(counts: Ints) -> Ints:
    """A level near the cheapest for values of these counts by bin (the last axis)."""
    mean = counts @ MIDDLES[: counts.shape[-1]] / counts.sum(-1)
    return np.rint(8 * np.log2(mean + 0.05)).astype(np.int64) + UNIT + 2


def _one_sigma(counts: Ints, around: int = 12) -> tuple[float, int, int]:
    """Bits, shape and level of the cheapest table for values of these counts by bin."""
    guess = int(_guess(counts[None])[0])
    low, high = min(max(guess - around, 0), LEVELS - 8), min(max(guess + around, 8), LEVELS)
    each = [(counts @ value_bits(shape)[: len(counts), low:high], shape) for shape in range(HISTOGRAM)]
    return min((float(bits.min()), shape, low + int(bits.argmin())) for bits, shape in each)


# Vectors


def fit_vector(values: NDArray[Any], may_be_histogram: bool = True) -> Fit:
    """The cheapest rate of following, shape and sigma."""
    v = values.astype(np.int64)
    if not len(v):
        return Fit("empty", (), v, 0.0, 0.0)
    fits = []
    for gain, start in _gains(v)[:2]:
        residuals = _residuals(v, start, gain)
        bits, shape, level = _one_sigma(np.bincount(bins_of(residuals)))
        side = 4 * NUMBER
        fits.append(Fit("followed", (start, gain, shape, level), residuals, bits + side, side))
        if may_be_histogram and (histogram := _histogram(residuals, fits[-1].bits)):
            header = (start, gain, HISTOGRAM, *histogram.header)
            bits, side = histogram.bits + 3 * NUMBER, histogram.side + 3 * NUMBER
            fits.append(Fit("followed histogram", header, residuals, bits, side))
    return min(fits, key=lambda fit: fit.bits)


def _gains(v: Ints, rates: Sequence[int] = range(6)) -> list[tuple[int, int]]:
    """Rates of following and where each starts, the closest follower first."""
    starts = [(gain, min(max(round(float(v[: 1 << gain].mean())), -FAR), FAR)) for gain in rates]
    return sorted(starts, key=lambda g: np.abs(v - _predictions(v, g[1], g[0])).sum())


def _residuals(v: Ints, start: int, gain: int) -> Ints:
    """What Reader.vector adds to its levels."""
    if not gain:
        return np.diff(v, prepend=start)
    level, out = start << 8, np.empty_like(v)
    for i, now in enumerate(v.tolist()):
        out[i] = now - (level + 128 >> 8)
        level += (now << 8) - level >> gain
    return out


def _predictions(v: Ints, start: int, gain: int) -> Ints:
    """Nearly what those residuals are added to: a moving average that forgets what is long ago."""
    if not gain:
        return np.concatenate([[start], v[:-1]])
    keep = 1 - 2.0**-gain
    taps = keep ** np.arange(3 << gain)
    level = start + (1 - keep) * np.convolve(v - start, taps)[: len(v) - 1]
    return np.rint(np.concatenate([[start], level])).astype(np.int64)


def _histogram(values: NDArray[Any], below: float) -> Fit | None:
    """The values under a table of their own, if that may cost less than `below` bits."""
    if values.size > 1 << 16:  # a look at some of them
        some = _order_0(np.unique(values.ravel()[: 1 << 14], return_counts=True)[1])
        if some / (1 << 14) * values.size > 1.02 * below:
            return None
    low, high = int(values.min()), int(values.max())
    largest = max(-low, high)
    if largest > 1023:
        return None
    counts = np.bincount(np.subtract(values.ravel(), low, dtype=np.intp))
    if _order_0(counts[counts > 0]) + 3 * (counts > 0).sum() > below:
        return None
    logs = np.zeros(2 * largest + 1, np.int64)
    rounded = np.rint(8 * np.log2(np.maximum(counts, 1))).astype(np.int64)
    logs[low + largest : high + largest + 1] = np.where(
        counts > 0, np.maximum(rounded - max(rounded.max() - 190, 0), 1), 0
    )
    frequencies = ans.exact(ans.sent_weights(logs))[low + largest : high + largest + 1]
    table = fit_vector(logs, may_be_histogram=False)
    side = table.bits + NUMBER
    bits = side + float((counts * (24 - np.log2(frequencies))).sum())
    return Fit("histogram", (largest, *table.answers()), values, bits, side)


def _order_0(counts: Ints) -> float:
    """Bits of values that come this often, under the table that suits them best."""
    return float((counts * np.log2(counts.sum() / counts)).sum())


# Matrices


@dataclass(frozen=True)
class Lines:
    """The levels of an axis's lines: base + known + stride * steps."""

    base: int
    known: Ints
    stride: int
    steps: Ints
    shape: int
    side: float  # bits of the steps
    bits: float  # theirs and the values'

    def relative(self) -> Ints:
        return self.known + self.stride * self.steps


class _Counts:
    """How often lines have values of each bin; an axis is 0 for rows, 1 for columns."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.bins = bins_of(values)
        self.wide = int(self.bins.max()) + 1

    def by(self, axis: int, groups: Ints) -> Ints:
        """[lines, groups of the other axis's lines, bins]."""
        lines, n = self.bins.shape[axis], int(groups.max()) + 1
        if axis == 0:
            out = np.empty((lines, n * self.wide), np.int64)
            group = np.arange(BLOCK)[:, None] * (n * self.wide) + groups * self.wide
            for at in range(0, lines, BLOCK):
                some = self.bins[at : at + BLOCK]
                there = (group[: len(some)] + some).ravel()
                out[at : at + BLOCK] = np.bincount(there, minlength=len(some) * n * self.wide).reshape(
                    len(some), -1
                )
            return out.reshape(lines, n, self.wide)
        out = np.zeros((n, lines * self.wide), np.int64)
        line, order = np.arange(lines) * self.wide, np.argsort(groups, kind="stable")
        for g in range(n):
            members = order[groups[order] == g]
            for at in range(0, len(members), BLOCK):
                there = (line + self.bins[members[at : at + BLOCK]]).ravel()
                out[g] += np.bincount(there, minlength=lines * self.wide)
        return out.reshape(n, lines, self.wide).transpose(1, 0, 2)

    def by_level(self, levels: NDArray[np.uint8]) -> Ints:
        """[levels, bins]."""
        index = np.uint16 if LEVELS * self.wide < 1 << 16 else np.int32
        at = levels * index(self.wide) + self.bins.ravel()
        return np.bincount(at, minlength=LEVELS * self.wide).reshape(LEVELS, -1)


Steps = tuple[NDArray[Any] | None, NDArray[Any] | None]  # of rows and of columns, in eighths of an octave


def fit_matrix(values: NDArray[Any], steps: Steps = (None, None)) -> Fit:
    """The cheapest description of a matrix of which these steps are known."""
    if not values.size:
        return Fit("empty", (), values, 0.0, 0.0)
    best = _scaled(values, steps)
    if alike := _alike(values):
        shares, residuals = alike
        rest, side = _scaled(residuals, steps), fit_vector(shares)
        shape, parts, *more = rest.header
        header = (shape, parts | ans.ALIKE, *side.answers(), *more)
        bits = rest.bits + side.bits
        fit = Fit(f"{rest.model}, rows alike", header, residuals, bits, rest.side + side.bits, rest.levels)
        best = min(best, fit, key=lambda fit: fit.bits)
    if histogram := _histogram(values, best.bits):
        header = (HISTOGRAM, 0, *histogram.header)
        bits, more_side = histogram.bits + 2 * NUMBER, histogram.side + 2 * NUMBER
        best = min(best, Fit("histogram", header, values, bits, more_side), key=lambda fit: fit.bits)
    return best


def _scaled(values: NDArray[Any], steps: Steps) -> Fit:
    """The cheapest of one sigma and of sigmas by row, by column and by both."""
    counts = _Counts(values)
    alone = [counts.by(axis, np.zeros(values.shape[1 - axis], np.int64)) for axis in (0, 1)]
    bits, shape, level = _one_sigma(alone[0].sum((0, 1)))
    best = Fit("one sigma", (shape, 0, level), values, bits + 3 * NUMBER, 3 * NUMBER)
    if values.size == 1 or max(values.shape) * counts.wide > MOST_COUNTS:
        return best
    lines = []
    for axis, own in enumerate(steps):
        ways = [None] if own is None or len(own) != values.shape[axis] else [None, -own.astype(np.int64)]
        solved = [_solve(alone[axis], None, shape, level, known) for known in ways]
        lines.append(min(solved, key=lambda one: one.bits))
    plans: list[tuple[float, Lines | None, Lines | None]] = [
        (lines[0].bits, lines[0], None),
        (lines[1].bits, None, lines[1]),
    ]
    turn = int(lines[0].bits < lines[1].bits)
    for _ in range(1 if values.size > FEW else 3):
        other = lines[1 - turn]
        lines[turn] = _solve(counts.by(turn, _groups(other)), other, other.shape, level, lines[turn].known)
        plans.append((lines[turn].bits + other.side, lines[0], lines[1]))
        turn = 1 - turn
    plans.sort(key=lambda plan: plan[0])
    fits = [_described(values, counts, row, col) for _, row, col in plans[: 1 if values.size > FEW else None]]
    return min([best, *fits], key=lambda fit: fit.bits)


def _groups(lines: Lines) -> Ints:
    """Lines of about one level, at most GROUPS of them."""
    relative = lines.relative()
    low, width = relative.min(), int(relative.max() - relative.min()) // GROUPS + 1
    return np.unique((relative - low) // width, return_inverse=True)[1]


def _solve(counts: Ints, other: Lines | None, shape: int, level: int, known: Ints | None = None) -> Lines:
    """The levels of lines, and the shape, that code values of these counts cheapest, given the other axis's."""
    if other is None:
        offsets = np.zeros(1, np.int64)
    else:
        of = _groups(other)
        offsets = np.rint(np.bincount(of, other.relative()) / np.bincount(of)).astype(np.int64)
    if known is None:
        known = np.zeros(len(counts), np.int64)
    found = _lines(counts, offsets, shape, level, known)
    fitting = _shape(counts, offsets, found)
    return found if fitting == shape else _lines(counts, offsets, fitting, level, known)


def _lines(counts: Ints, offsets: Ints, shape: int, level: int, known: Ints) -> Lines:
    """The cheapest levels of lines near `level`, where a value's level is its line's plus its group's offset.

    What the levels cost themselves has a say: they are chosen again, twice, with the price that each has
    next to where the levels before it were going.
    """
    lines, _, wide = counts.shape
    guess = _guess(counts.sum(1))
    low, high = max(int(guess.min()), level - 48) - 8, min(int(guess.max()), level + 48) + 9
    grid = np.arange(low - int(offsets.max()), high - int(offsets.min()))
    at = np.clip(grid + offsets[:, None], 0, LEVELS - 1)
    prices = value_bits(shape)[:wide, at].transpose(1, 0, 2).reshape(-1, len(grid))
    costs = counts.reshape(lines, -1).astype(np.float32) @ prices
    wanted = grid[costs.argmin(1)] - known
    base, stride = int(np.median(wanted)), _stride(int(counts[0].sum()))
    reach = int(np.abs(wanted - base).max()) // stride + 2
    offer = np.arange(-reach, reach + 1)
    at = base + known[:, None] + stride * offer - grid[0]
    cost = np.take_along_axis(costs, at.clip(0, len(grid) - 1), 1) + 1e9 * ((at < 0) | (at >= len(grid)))
    flat = int(cost.sum(0).argmin())  # one for all lines, to begin with
    best = Lines(
        base + stride * int(offer[flat]),
        known,
        stride,
        np.zeros(lines, np.int64),
        shape,
        0.0,
        float(cost[:, flat].sum()),
    )
    steps = offer[cost.argmin(1)]
    for _ in range(3):
        gain, start = _gains(steps, (0, 2, 5))[0]
        expected = _predictions(steps, start, gain)
        side, like, spread = _one_sigma(np.bincount(bins_of(steps - expected)))
        side += 5 * NUMBER
        bits = float(np.take_along_axis(cost, (steps + reach)[:, None], 1).sum()) + side
        if bits < best.bits:
            best = Lines(base, known, stride, steps, shape, side, bits)
        away = np.minimum(np.abs(offer - expected[:, None]), FINE)
        steps = offer[(cost + value_bits(like)[:, spread][away]).argmin(1)]
    return best


def _shape(counts: Ints, offsets: Ints, lines: Lines) -> int:
    """The cheapest shape for values of these counts with these lines' levels."""
    levels, which = np.unique(lines.base + lines.relative(), return_inverse=True)
    one_hot = (np.arange(len(levels))[:, None] == which).astype(np.float32)
    by_level = (one_hot @ counts.reshape(len(counts), -1).astype(np.float32)).reshape(
        len(levels), *counts.shape[1:]
    )
    at = np.clip(levels[:, None] + offsets, 0, LEVELS - 1)
    return min(
        range(HISTOGRAM),
        key=lambda shape: float(
            (by_level * value_bits(shape)[: counts.shape[2], at].transpose(1, 2, 0)).sum()
        ),
    )


def _stride(n: int) -> int:
    """A line of n values knows log2 sigma to 0.7 / sqrt(n): levels as fine as pays."""
    return 1 if n > 300 else 2 if n > 80 else 4


def _described(values: NDArray[Any], counts: _Counts, row: Lines | None, col: Lines | None) -> Fit:
    """The fit with these lines: the best shape for the levels they make, and the whole cost."""
    base = [lines.base for lines in (row, col) if lines][-1]
    levels, parts, header, side = np.full((1, 1), base, np.int32), 0, [], 3 * NUMBER
    for lines, steps, varied in ((row, ans.ROW_STEPS, ans.ROWS), (col, ans.COLUMN_STEPS, ans.COLUMNS)):
        if lines is None:
            continue
        relative = lines.relative().astype(np.int32)
        levels = levels + (relative[:, None] if lines is row else relative)
        parts |= steps * bool(lines.known.any()) + varied * bool(lines.steps.any())
        if lines.steps.any():
            fit = fit_vector(lines.steps)
            side += fit.bits + NUMBER
            header += [lines.stride, *fit.answers()]
    flat = np.broadcast_to(levels.clip(0, LEVELS - 1).astype(np.uint8), values.shape).ravel()
    by_level = counts.by_level(flat)
    used = np.flatnonzero(by_level.any(1))
    bits, shape = min(
        (float((by_level[used] * value_bits(shape)[: counts.wide, used].T).sum()), shape)
        for shape in range(HISTOGRAM)
    )
    names = {
        ans.ROW_STEPS: "row steps",
        ans.ROWS: "rows",
        ans.COLUMN_STEPS: "column steps",
        ans.COLUMNS: "columns",
    }
    by = ", ".join(name for bit, name in names.items() if parts & bit)
    model = f"sigmas by {by}" if by else "one sigma"
    return Fit(model, (shape, parts, base, *header), values, bits + side, side, flat)


def _alike(values: NDArray[Any]) -> tuple[Ints, Ints] | None:
    """Eighths of each row's resemblance to the mean of such rows before it, and what then remains.

    Embeddings of tokens that were never trained on are alike. A row is among them if the mean explains a
    third of it; a first member is found by eight columns that several rows have in common.
    """
    rows, cols = values.shape
    if rows < 8 or cols < 16:
        return None
    small, most, first = values.astype(np.int8), 2, -1  # wrapped where large: a key, no more
    for at in range(0, min(cols - 7, 64), 8):
        words = np.ascontiguousarray(small[:, at : at + 8]).view(np.uint64).ravel()
        _, where, times = np.unique(words, return_index=True, return_counts=True)
        if times.max() > most and small[where[times.argmax()], at : at + 8].any():
            most, first = int(times.max()), int(where[times.argmax()])
    if first < 0:
        return None
    wide = values.astype(np.float32)
    energy = np.maximum((wide**2).sum(1), 1e-9)
    template = wide[first]
    for _ in range(3):
        along = wide @ template
        chosen = (along > 0) & (along**2 > 0.33 * energy * (template @ template))
        if chosen.sum() < 4:
            return None
        template = wide[chosen].mean(0)
    shares = np.where(chosen, np.clip(np.rint(8 * along / (template @ template)), 1, 16), 0).astype(np.int64)
    out, total, n = values.astype(np.int64), np.zeros(cols, np.int64), 0
    for i in np.flatnonzero(shares).tolist():
        out[i] -= ans.likeness(int(shares[i]), total, n)
        total, n = total + values[i], n + 1
    return shares, out
