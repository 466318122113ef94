"""Integer arrays from one entropy-coded stream: the decoder, and the tables that both sides share.

    matrix    q[i, j] ~ generalised Gaussian(shape, sigma[i, j])      log2 sigma[i, j] = b + r[i] + c[j]
    vector    v[i] = level of v[..i-1] + residual,  residual ~ generalised Gaussian(shape, sigma)

Both are one stack of asymmetric numeral systems (constriction's AnsCoder): nothing is framed, and since
every count follows from the shapes and from what was decoded before, the stream holds no lengths. Weights
of one sigma are drawn in one call, so a decoder of Python lines runs at the speed of the library. After
the last symbol comes a mark, and the stack is empty again: an altered stream practically never ends so.

Tables have to be the same on every machine. They are made of float64 additions, multiplications,
divisions and square roots, which IEEE 754 rounds in one way, and of integers; no exp, no log, no erf. A
table is handed over as integers that sum to 2^24 less one for each symbol, and constriction adds that one:
the frequencies it uses are exact.

Values beyond a table's reach are an escape symbol, then 32 plain bits.
"""

from collections.abc import Sequence
from functools import cache
from math import ldexp, prod, sqrt
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

MODEL = constriction.stream.model
ONE = 1 << 24
# Four times the exponent of exp(-|x / a|^beta), and 256 a where sigma is 1. The last shape is a histogram.
SHAPES = ((4, 181), (5, 248), (6, 298), (7, 335), (8, 362), (9, 382), (10, 398), (12, 419))
HISTOGRAM = len(SHAPES)
UNIT = 32  # the level at which sigma is 1; eight levels to the octave
LEVELS = 256
LARGE = 72  # from this level on, sigma >= 32, a value's last bits are plain
END = 165  # at the bottom of the stack: one that ran dry gives zeros for ever
MOST = 1 << 27  # values in a stream
ROWS, COLUMNS, ROW_STEPS, COLUMN_STEPS, ALIKE = 1, 2, 4, 8, 16  # parts of a matrix's description


def power(level: int) -> float:
    """2 ** (level / 8)."""
    out, root = ldexp(1.0, level >> 3), sqrt(sqrt(sqrt(2.0)))
    for _ in range(level & 7):
        out *= root
    return out


def density(level: int, shape: int) -> NDArray[np.int64]:
    """Weights of |value| = 0, 1, ... under a generalised Gaussian: four points to a bin, nothing below
    e^-17 of the peak; (1 - z) / (1 + z) to the 256 is exp(-512 z)."""
    quarters, scale = SHAPES[shape]
    a = power(level - UNIT) * scale / 256
    total = np.zeros(int(18 * a) + 2)
    for point in (-0.375, -0.125, 0.125, 0.375):
        root = np.sqrt(np.sqrt(np.abs(np.arange(len(total)) + point) / a))
        t = root
        for _ in range(quarters - 1):
            t = t * root
        t = np.minimum(t, 32.0) / 512
        t = (1 - t) / (1 + t)
        for _ in range(8):
            t = t * t
        total = total + t
    weights = (total * (1 << 26)).astype(np.int64)
    return weights[: max(int((weights > 8).sum()), 2)]


def exact(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Frequencies of the values -k..k and of the escape, from weights of 0..k (or -k..k): sum 2^24, none 0."""
    n = len(weights) + 1
    frequencies = np.append(weights * (ONE - n) // weights.sum(), 0)
    frequencies[np.argmax(frequencies)] += ONE - n - frequencies.sum()
    return frequencies + 1


@cache
def table(level: int, shape: int) -> NDArray[np.int64]:
    half = density(level, shape)
    return exact(np.concatenate([half[:0:-1], half]))


def sent_weights(logs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Weights of -k..k from their logarithms, eight to the octave; 0 is none."""
    weights = np.array([int(power(x) * 256) if x > 0 else 0 for x in logs.clip(0, 191).tolist()])
    weights[len(weights) // 2] += 1
    return weights


def likeness(alike: int, total: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """What a row is expected to be that is `alike` eighths of the mean of `n` rows of this total."""
    return (alike * total + 4 * n) // (8 * n or 1)


def model(frequencies: NDArray[np.int64]) -> Any:
    return MODEL.Categorical((frequencies - 1).astype(np.float64), perfect=False)


@cache
def known(level: int, shape: int) -> tuple[int, Any]:
    """The largest value before the escape, and the table as constriction has it."""
    frequencies = table(level, shape)
    return len(frequencies) // 2 - 1, model(frequencies)


class Reader:
    """Draws arrays from a stream, in the order in which they were written."""

    def __init__(self, data: bytes) -> None:
        self.coder = constriction.stream.stack.AnsCoder(np.frombuffer(data, "<u4").astype(np.uint32))
        self.last: dict[str, int] = {}
        self.vectors = [np.zeros(1, np.int64)] * 2

    def draw(self, of: Any, n: int) -> NDArray[np.int64]:
        return self.coder.decode(of, n).astype(np.int64)

    def values(self, largest: int, of: Any, n: int, shift: int = 0) -> NDArray[np.int64]:
        """`n` values that share a table."""
        out = self.draw(of, n) - largest
        escaped = np.flatnonzero(out > largest)
        if shift:
            out = (out << shift) + self.draw(MODEL.Uniform(1 << shift), n) - (1 << shift >> 1)
        if k := len(escaped):
            plain = MODEL.Uniform(1 << 16)
            low = self.draw(plain, k)
            out[escaped] = (self.draw(plain, k) - (1 << 15) << 16) + low
        return out

    def gaussians(self, level: int, shape: int, n: int) -> NDArray[np.int64]:
        shift = max((level - LARGE >> 3) + 1, 0)
        return self.values(*known(level - 8 * shift, shape), n, shift)

    def number(self, key: str) -> int:
        """One number of a header, near to the last of its kind."""
        self.last[key] = now = self.last.get(key, 0) + int(self.gaussians(UNIT + 12, 0, 1)[0])
        return now

    def histogram(self, n: int) -> NDArray[np.int64]:
        """Values under a table that is sent: the logarithms of its weights, as a vector."""
        largest = self.number("k") & 1023
        logs = self.vector(2 * largest + 1, "h")
        return self.values(largest, model(exact(sent_weights(logs))), n)

    def vector(self, n: int, kind: str) -> NDArray[np.int64]:
        """Values near the level that the values before them have: all of the way to the last value, or
        half, a quarter, ... of the way from where the level was."""
        if not n:
            return np.zeros(0, np.int64)
        level, gain, shape = (self.number(kind + key) for key in "bgs")
        level <<= 8
        if shape == HISTOGRAM and kind != "h":
            out = self.histogram(n)
        else:
            out = self.gaussians(self.number(kind + "l") & 255, shape & 7, n)
        for i, x in enumerate(out.tolist()):
            out[i] = now = ((level + 128 >> 8) + x + (1 << 31)) % (1 << 32) - (1 << 31)
            level += (now << 8) - level >> (gain & 7)
        return out

    def matrix(self, rows: int, cols: int) -> NDArray[np.int64]:
        """Values whose sigmas are a row's times a column's, around what the rows before say. The last vector
        is taken for the rows' steps, in eighths of an octave, and the one before it for the columns'."""
        if not rows * cols:
            return np.zeros((rows, cols), np.int64)
        shape, parts = self.number("s"), self.number("p")
        alike = self.vector(rows, "a") if parts & ALIKE else np.zeros(rows, np.int64)
        if shape == HISTOGRAM:
            out = self.histogram(rows * cols).reshape(rows, cols)
        else:
            levels = np.full((rows, cols), self.number("l"))
            if parts & ROW_STEPS:
                levels -= self.vectors[-1][:, None]
            if parts & ROWS:
                levels += self.number("r") * self.vector(rows, "r")[:, None]
            if parts & COLUMN_STEPS:
                levels -= self.vectors[-2]
            if parts & COLUMNS:
                levels += self.number("c") * self.vector(cols, "c")
            flat = levels.clip(0, LEVELS - 1).astype(np.uint8).ravel()
            out = np.empty((rows, cols), np.int64)
            out.ravel()[np.argsort(flat, kind="stable")] = np.concatenate(
                [self.gaussians(level, shape & 7, int(n)) for level, n in enumerate(np.bincount(flat)) if n]
            )
        total, n = np.zeros(cols, np.int64), 0
        for i in np.flatnonzero(alike).tolist():
            out[i] += likeness(int(alike[i]), total, n)
            total, n = total + out[i], n + 1
        return out

    def array(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """An array of any rank: what is not a matrix is a vector, or a matrix of its first axis by the rest."""
        if len(shape) < 2:
            wide = self.vector(prod(shape), "v")
            self.vectors.append(wide)
        else:
            wide = self.matrix(shape[0], prod(shape[1:]))
        narrow = wide.astype(np.int16)
        return (narrow if (narrow == wide).all() else wide.astype(np.int32)).reshape(shape)


def decode_arrays(data: bytes, shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    """The arrays that `encode_arrays` coded: int16, or int32 where int16 cannot hold them.

    Raises:
        ValueError: if `data` is not a stream of arrays of these shapes.
    """
    if any(not 0 <= n <= MOST for shape in shapes for n in shape) or sum(map(prod, shapes)) > MOST:
        raise ValueError(f"a stream holds at most {MOST} values")
    if len(data) % 4:
        raise ValueError("a stream is whole words of four bytes")
    reader = Reader(data)
    arrays = [reader.array(shape) for shape in shapes]
    if reader.coder.decode(MODEL.Uniform(256)) != END or not reader.coder.is_empty():
        raise ValueError("a stream ends where its last array does")
    return arrays
