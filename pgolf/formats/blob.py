"""The artifact: one file that holds a quantized model and nothing else.

    bytes 0-7    b"PGOLF\\0\\0\\2"  (name, container version)
    bytes 8-39   SHA-256 of everything from byte 40 on
    bytes 40-43  little-endian uint32: length of the header
    header       Brotli: JSON of the network's config, the vocabulary size, the codec, how every matrix is made
                 up, the float16 tensors' shapes, and the lengths of what follows
    codes        all integer arrays, by the codec
    halves       Brotli: all float16 values, low bytes before high bytes

The codec is one of `DECODERS`: the entropy coder of weights (`ans`) or a general compressor of bytes. The
reader refuses foreign, cut or altered files before it uses a byte of them, and a file that someone has signed
anew but filled with nonsense with the same kind of error: nothing it claims is believed unchecked.
"""

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import torch
from numpy.typing import NDArray

from pgolf.errors import DataError
from pgolf.formats.quantized import COARSEST, FINEST, Matrix, QuantizedModel, array_shapes, matrix_of

ARTIFACT = "artifact.bin"
MAGIC = b"PGOLF\0\0\2"
HALVES = "alpha"  # the arrays of a matrix that are float16
# Far above any tiny model, below any harm: bytes; weights; weights of one matrix, whose decoding takes some
# forty bytes each; step codes, which are decoded one by one.
MOST_HEADER, MOST_VALUES, MOST_OF_ONE, MOST_STEPS = 1 << 22, 1 << 27, 1 << 25, 1 << 22

Shape = tuple[int, ...]
Decoder = Callable[[bytes, list[Shape], list[str]], list[NDArray[np.int16]]]


@dataclass(frozen=True)
class Codec:
    """How the integer arrays are coded: the name readers know it by, and the encoder.

    `encode(arrays, groups)`: arrays are int16, codes of matrices [rows, cols] and step codes [n]; a group is
    the role of the matrix that an array belongs to.
    """

    name: str
    encode: Callable[[list[NDArray[np.int16]], list[str]], bytes]


def _decoder(name: str) -> Decoder | None:
    """The decoder of a codec, loaded when it is asked for: an artifact needs one of them."""
    if name == "ans":
        from pgolf.formats.ans import decode_arrays

        return lambda data, shapes, groups: decode_arrays(data, shapes)
    if name in ("brotli", "lzma", "zstd", "zpaq"):
        from pgolf.formats.byte_codec import decode_bytes

        return lambda data, shapes, groups: decode_bytes(name, data, shapes, groups)
    return None


CODECS = ("ans", "brotli", "lzma", "zstd", "zpaq")


def encode(model: QuantizedModel, codec: Codec) -> bytes:
    """The artifact's bytes; equal models give equal bytes."""
    integers: list[NDArray[np.int16]] = []
    groups: list[str] = []
    halves: list[NDArray] = []
    for name, part, array in model.arrays():
        if part == HALVES:
            halves.append(array.numpy())
        else:
            integers.append(array.numpy())
            groups.append(model.roles[name])
    halves += [t.numpy() for t in model.rest.values()]
    codes = codec.encode(integers, groups)
    floats = brotli.compress(_planes(b"".join(h.astype("<f2").tobytes() for h in halves)), quality=11)
    header = {
        "model": model.model,
        "vocab_size": model.vocab_size,
        "codec": codec.name,
        "matrices": [[name, model.roles[name], m.tree()] for name, m in model.matrices.items()],
        "rest": [[name, list(t.shape)] for name, t in model.rest.items()],
        "sizes": [len(codes), len(floats)],
    }
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    packed = brotli.compress(text, quality=11)
    body = struct.pack("<I", len(packed)) + packed + codes + floats
    return MAGIC + hashlib.sha256(body).digest() + body


def decode(data: bytes, origin: str = "the artifact") -> QuantizedModel:
    """Raises DataError if `data` is no artifact, is cut short, was altered, or says what cannot be."""
    remedy = "give an artifact.bin that pgolf packed, or pack it again"
    if data[: len(MAGIC)] != MAGIC:
        raise DataError("an artifact begins with PGOLF and its version", f"{origin}: {data[:8]!r}", remedy)
    if hashlib.sha256(data[40:]).digest() != data[8:40]:
        raise DataError(
            "an artifact's bytes match the SHA-256 they carry", f"{origin}: cut short or altered", remedy
        )
    try:
        return _opened(data[40:])
    except DataError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, struct.error, RecursionError) as error:
        raise DataError("an artifact says what it holds", f"{origin}: {error}", remedy) from None


def _opened(body: bytes) -> QuantizedModel:
    (length,) = struct.unpack_from("<I", body)
    header: dict[str, Any] = json.loads(unpacked(body[4 : 4 + length], MOST_HEADER))
    at, sizes = 4 + length, header["sizes"]
    if len(sizes) != 2 or min(sizes) < 0 or at + sum(sizes) != len(body):
        raise ValueError(f"lengths {sizes} in a body of {len(body)} bytes")
    if not isinstance(header["model"], dict) or not isinstance(header["vocab_size"], int):
        raise ValueError("a config is a mapping, a vocabulary has a size")
    decoder = _decoder(header["codec"])
    if decoder is None:
        raise DataError(
            "an artifact's codec is known", str(header["codec"])[:40], f"known: {', '.join(CODECS)}"
        )
    parts = [(name, role, tree, array_shapes(tree)) for name, role, tree in header["matrices"]]
    rest = [(name, tuple(shape)) for name, shape in header["rest"]]
    names = [name for name, *_ in parts] + [name for name, _ in rest]
    if not all(isinstance(word, str) for word in names + [role for _, role, _, _ in parts]):
        raise ValueError("names and roles are words")
    if len(set(names)) < len(names):
        raise ValueError("a name is given twice")
    shapes = [(s, role, part) for _, role, _, own in parts for part, s in own.items()]
    integers = [(s, role) for s, role, part in shapes if part != HALVES]
    halves = [s for s, _, part in shapes if part == HALVES] + [shape for _, shape in rest]
    _refuse_what_no_model_has([s for s, _ in integers], halves)
    codes = decoder(body[at : at + sizes[0]], [s for s, _ in integers], [g for _, g in integers])
    for array in codes:
        if array.dtype != np.int16 or (array.ndim == 1 and ((array < FINEST) | (array > COARSEST)).any()):
            raise ValueError("codes beyond int16, or steps beyond what a step may be")
    floats = unpacked(body[at + sizes[0] :], 2 * _values(halves))
    if len(floats) != 2 * _values(halves):
        raise ValueError(f"{len(floats)} bytes for {_values(halves)} float16 values")
    taken, values = iter(codes), _split(np.frombuffer(_unplanes(floats), "<f2"), halves)
    matrices: dict[str, Matrix] = {}
    for name, _, tree, own in parts:
        arrays = {part: torch.from_numpy(next(values if part == HALVES else taken)) for part in own}
        matrices[name] = matrix_of(tree, arrays)
    roles = {name: role for name, role, _, _ in parts}
    left = {name: torch.from_numpy(next(values)) for name, _ in rest}
    return QuantizedModel(header["model"], header["vocab_size"], matrices, roles, left)


def read_artifact(path: Path) -> QuantizedModel:
    """Raises DataError if the file is missing or is no whole artifact."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            "an artifact is a file that can be read", f"{path}: {error.strerror}", "check the path"
        ) from None
    return decode(data, str(path))


def _refuse_what_no_model_has(integers: list[tuple[Any, ...]], halves: list[tuple[Any, ...]]) -> None:
    if not all(isinstance(n, int) and 0 <= n <= MOST_OF_ONE for shape in integers + halves for n in shape):
        raise ValueError(f"an axis is 0 to {MOST_OF_ONE:,} long")
    if max(map(prod, integers + halves), default=0) > MOST_OF_ONE or _values(integers + halves) > MOST_VALUES:
        raise ValueError(f"more than {MOST_OF_ONE:,} values in one array, or {MOST_VALUES:,} in all")
    if _values([shape for shape in integers if len(shape) == 1]) > MOST_STEPS:
        raise ValueError(f"more than {MOST_STEPS:,} steps")


def _values(shapes: list[Shape]) -> int:
    return sum(prod(shape) for shape in shapes)


def _split(values: NDArray, shapes: list[Shape]):  # type: ignore[no-untyped-def]
    at = 0
    for shape in shapes:
        yield values[at : at + prod(shape)].reshape(shape).astype(np.float16)
        at += prod(shape)


def unpacked(data: bytes, most: int) -> bytes:
    """What Brotli packed, refused beyond `most` bytes: a small file may claim to hold a disk.

    Raises:
        ValueError: for that, or if `data` is not one whole stream.
    """
    stream, out = brotli.Decompressor(), bytearray()
    try:
        out += stream.process(data, output_buffer_limit=most + 1)
        while not stream.is_finished() and len(out) <= most:
            more = stream.process(b"", output_buffer_limit=most + 1 - len(out))
            if not more:
                raise ValueError("a Brotli stream is cut short")
            out += more
    except brotli.error as error:
        raise ValueError(str(error)) from None
    if len(out) > most:
        raise ValueError(f"a Brotli stream holds more than {most} bytes")
    return bytes(out)


def _planes(data: bytes) -> bytes:
    """Float16 bytes with all low bytes first, then all high bytes: exponents lie together."""
    return data[0::2] + data[1::2]


def _unplanes(data: bytes) -> bytes:
    out = bytearray(len(data))
    out[0::2], out[1::2] = data[: len(data) // 2], data[len(data) // 2 :]
    return bytes(out)
