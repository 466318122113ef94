"""The encoder of pgolf.formats.ans.

Encoding is the decoder's own code, run by a reader that is told the answers (pgolf.pack.ans_fit finds them)
and notes the table of each: the format is written down once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from pgolf.formats.ans import END, MODEL, Reader
from pgolf.pack.ans_fit import Fit, Steps, fit_matrix, fit_vector

Values = NDArray[np.int64]


class _Writer(Reader):
    """A reader that is told what it reads, and remembers by which tables."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.script: list[Values] = []
        self.drawn: list[tuple[NDArray[np.int32], Any]] = []
        self.ends: list[int] = []  # of arrays, in `drawn`

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

    def data(self) -> tuple[bytes, list[int]]:
        """The stream, and the bits of each array in it."""
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(END, MODEL.Uniform(256))
        bits, left = [0] * len(self.ends), len(self.drawn)
        for i in reversed(range(len(self.ends))):
            before, begin = coder.num_valid_bits(), self.ends[i - 1] if i else 0
            for symbols, of in reversed(self.drawn[begin:left]):
                coder.encode_reverse(symbols, of)
            bits[i], left = coder.num_valid_bits() - before, begin
        return coder.get_compressed().astype("<u4").tobytes(), bits


@dataclass(frozen=True)
class Coded:
    """What became of one array."""

    model: str
    ideal_bits: float  # the exact code length under its model and tables: what `estimate_bytes` says, in bits
    side_bits: float  # of those, what describes the array rather than lists its values
    coded_bytes: float  # in the stream


def encode_arrays(arrays: Sequence[NDArray[Any]]) -> bytes:
    """One stream of these arrays, for `decode_arrays` with their shapes.

    A matrix is coded best right after the vector of its rows' steps, in eighths of an octave, and that after
    the vector of its columns' steps, if it has any.
    """
    return _encode(arrays)[0]


def report(arrays: Sequence[NDArray[Any]]) -> list[Coded]:
    """How each array of a stream is coded and how long it is there."""
    return _encode(arrays)[1]


def estimate_bytes(
    array: NDArray[Any], rows: NDArray[Any] | None = None, columns: NDArray[Any] | None = None
) -> float:
    """What an array adds to a stream in which the steps of its rows and columns, if given, come before it."""
    return _fit(array, (rows, columns)).bits / 8


def _encode(arrays: Sequence[NDArray[Any]]) -> tuple[bytes, list[Coded]]:
    writer, fits = _Writer(), []
    for a in arrays:
        fit = _fit(a, (writer.vectors[-1], writer.vectors[-2]))
        writer.told(*fit.answers())
        writer.array(a.shape)
        assert not writer.script
        writer.ends.append(len(writer.drawn))
        fits.append((fit.model, fit.bits, fit.side))
    data, bits = writer.data()
    return data, [Coded(*fit, n / 8) for fit, n in zip(fits, bits, strict=True)]


def _fit(array: NDArray[Any], steps: Steps) -> Fit:
    """Raises ValueError for values beyond int32 and for anything but integers."""
    if array.dtype.kind not in "iu" or (
        array.size and max(-int(array.min()), int(array.max()) + 1) > 1 << 31
    ):
        raise ValueError(f"codes are integers that int32 holds, not {array.dtype}")
    if array.dtype.kind == "u":
        array = array.astype(np.int32)
    if array.ndim < 2:
        return fit_vector(array.ravel())
    return fit_matrix(array.reshape(array.shape[0], prod(array.shape[1:])), steps)
