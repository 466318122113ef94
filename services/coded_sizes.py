"""What each array of an artifact takes up in its file.

    ans              one stream, decoded array by array: an array is what the stream grows shorter by, to a bit
    brotli, zstd ..  one stream a role and one for all step codes. Inside a stream nobody can say whose a byte is;
                     it is shared in proportion to the arrays' order-0 entropies
    float16          one Brotli stream, shared by the number of values

Measured on the artifact itself, never by coding again: the coder that packed it may have changed since.
"""

import json
import struct
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import brotli
import numpy as np
from numpy.typing import NDArray

from pgolf.formats.ans import Reader
from pgolf.formats.blob import HALVES, MAGIC
from pgolf.formats.byte_codec import STEPS
from pgolf.formats.quantized import QuantizedModel

FRAME = len(MAGIC) + 32  # name, version, SHA-256

Array = tuple[str, str]  # the matrix's name, and which of its arrays


@dataclass(frozen=True)
class CodedSizes:
    """Bytes of an artifact. `arrays` are fractional: a stream has no byte borders between them."""

    codec: str
    header: int  # all that is neither codes nor float16
    codes: int
    halves: int
    arrays: Mapping[Array, float]

    @property
    def separable(self) -> bool:
        """Whether an array's bytes are its own, not its share of a stream."""
        return self.codec == "ans"


def coded_sizes(data: bytes, model: QuantizedModel) -> CodedSizes:
    """Of a whole artifact and the model that it decodes to (`pgolf.formats.blob` has checked both)."""
    (length,) = struct.unpack_from("<I", data, FRAME)
    begin = FRAME + 4 + length
    header: dict[str, Any] = json.loads(brotli.decompress(data[FRAME + 4 : begin]))
    codes_bytes, halves_bytes = header["sizes"]
    codes = data[begin : begin + codes_bytes]
    integers = {(n, part): a.numpy() for n, part, a in model.arrays() if part != HALVES}
    halves = {(n, part): a.numel() for n, part, a in model.arrays() if part == HALVES}
    values = sum(halves.values()) + sum(t.numel() for t in model.rest.values())
    if header["codec"] == "ans":
        sizes = _drawn(codes, integers)
    else:
        sizes = _shared(codes, integers, model.roles)
    sizes |= {array: halves_bytes * count / values for array, count in halves.items()}
    return CodedSizes(
        header["codec"], len(data) - codes_bytes - halves_bytes, codes_bytes, halves_bytes, sizes
    )


def order_0_bits(array: NDArray[Any]) -> float:
    """The length of an array under its own histogram, which itself costs nothing: the ideal static code.

    >>> order_0_bits(np.array([0, 0, 1, 1, 2, 2, 3, 3]))
    16.0
    """
    counts = np.unique(array, return_counts=True)[1]
    return float((counts * np.log2(array.size / counts)).sum()) if array.size else 0.0


def _drawn(codes: bytes, arrays: Mapping[Array, NDArray[Any]]) -> dict[Array, float]:
    reader = Reader(codes)
    left = [reader.coder.num_valid_bits()]
    for array in arrays.values():
        reader.array(array.shape)
        left.append(reader.coder.num_valid_bits())
    return {name: (a - b) / 8 for name, (a, b) in zip(arrays, pairwise(left), strict=True)}


def _shared(
    codes: bytes, arrays: Mapping[Array, NDArray[Any]], roles: Mapping[str, str]
) -> dict[Array, float]:
    streams: dict[str, list[Array]] = defaultdict(list)
    for name, array in arrays.items():
        streams[roles[name[0]] if array.ndim == 2 else STEPS].append(name)
    sizes: dict[Array, float] = {}
    for i, (_, members) in enumerate(sorted(streams.items())):
        _, length = struct.unpack_from("<BI", codes, 1 + 5 * i)
        claims = {name: _order_0_bits_as_laid(arrays[name]) for name in members}
        if not any(claims.values()):
            claims = {name: float(arrays[name].size) for name in members}
        total = sum(claims.values())
        sizes |= {name: length * claim / total if total else 0.0 for name, claim in claims.items()}
    return sizes


def _order_0_bits_as_laid(array: NDArray[Any]) -> float:
    """Step codes are handed to the compressor as differences."""
    return order_0_bits(np.diff(array, prepend=array.dtype.type(0)) if array.ndim == 1 else array)
