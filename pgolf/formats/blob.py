"""The artifact: one file that holds a quantized model and nothing else.

    bytes 0-7    b"PGOLF\\0\\0\\1"  (name, container version)
    bytes 8-39   SHA-256 of everything from byte 48 on
    bytes 40-47  the codec's name in ASCII, padded with NUL
    bytes 48-51  little-endian uint32: length of the header
    header       JSON, compressed: model config, vocabulary size, layout, names and shapes of the tensors
    payload      one compressed stream a group, back to back

Codes are stored one per byte, grouped by role so that a coder sees one kind of matrix at a time, and
optionally column by column; never bit-packed, which would hide the histogram from the coder. The reader
refuses foreign, cut or altered files before it uses a byte of them.
"""

import hashlib
import json
import lzma
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import torch
from numpy.typing import NDArray

from pgolf.errors import DataError
from pgolf.formats.quantized import QuantizedMatrix, QuantizedModel

ARTIFACT = "artifact.bin"
MAGIC = b"PGOLF\0\0\1"
PLANED = ("steps", "rest")  # streams of float16
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {"brotli": brotli.decompress, "lzma": lzma.decompress}


@dataclass(frozen=True)
class Codec:
    """How payload streams are compressed: the name readers know it by, and the encoder."""

    name: str
    compress: Callable[[bytes], bytes]


def encode(model: QuantizedModel, codec: Codec, transpose: bool) -> bytes:
    """The artifact's bytes; equal models give equal bytes."""
    streams: dict[str, list[bytes]] = {g: [] for g in [*sorted(set(model.roles.values())), *PLANED]}
    tensors: list[list[Any]] = []
    for name, m in model.matrices.items():
        group = model.roles[name]
        q = m.q.numpy()
        streams[group].append((q.T if transpose else q).tobytes())
        streams["steps"].append(m.step.numpy().astype("<f2").tobytes())
        tensors.append([name, group, list(m.q.shape)])
    for name, t in model.rest.items():
        streams["rest"].append(t.numpy().astype("<f2").tobytes())
        tensors.append([name, "rest", list(t.shape)])
    payloads = {
        group: codec.compress(_planes(b"".join(parts)) if group in PLANED else b"".join(parts))
        for group, parts in streams.items()
    }
    header = {
        "model": model.model,
        "vocab_size": model.vocab_size,
        "codec": codec.name,
        "transpose": transpose,
        "tensors": tensors,
        "streams": [[group, len(payload)] for group, payload in payloads.items()],
    }
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    packed = codec.compress(text)
    body = struct.pack("<I", len(packed)) + packed + b"".join(payloads.values())
    return MAGIC + hashlib.sha256(body).digest() + _tagged(codec.name) + body


def decode(data: bytes, origin: str = "the artifact") -> QuantizedModel:
    """Raises DataError if `data` is no artifact, is cut short, or was altered."""
    remedy = "give an artifact.bin that pgolf packed, or pack it again"
    if data[: len(MAGIC)] != MAGIC:
        raise DataError("an artifact begins with PGOLF and its version", f"{origin}: {data[:8]!r}", remedy)
    digest, codec, body = data[8:40], data[40:48].rstrip(b"\0").decode("ascii", "replace"), data[48:]
    if hashlib.sha256(body).digest() != digest:
        raise DataError(
            "an artifact's bytes match the SHA-256 they carry", f"{origin}: cut short or altered", remedy
        )
    if codec not in DECOMPRESS:
        raise DataError(
            "an artifact's codec is known", f"{origin}: {codec}", f"known: {', '.join(DECOMPRESS)}"
        )
    unpack = DECOMPRESS[codec]
    (length,) = struct.unpack_from("<I", body)
    header = json.loads(unpack(body[4 : 4 + length]))
    at, raw = 4 + length, {}
    for group, size in header["streams"]:
        stream = unpack(body[at : at + size])
        raw[group] = _Reader(_unplanes(stream) if group in PLANED else stream)
        at += size
    matrices, roles, rest = {}, {}, {}
    for name, group, shape in header["tensors"]:
        if group == "rest":
            rest[name] = torch.from_numpy(raw["rest"].take("<f2", shape).astype(np.float16))
            continue
        stored = shape[::-1] if header["transpose"] else shape
        q = raw[group].take("i1", stored)
        step = raw["steps"].take("<f2", [shape[0], 1]).astype(np.float16)
        q = np.ascontiguousarray(q.T if header["transpose"] else q)
        matrices[name], roles[name] = QuantizedMatrix(torch.from_numpy(q), torch.from_numpy(step)), group
    return QuantizedModel(header["model"], header["vocab_size"], matrices, roles, rest)


def read_artifact(path: Path) -> QuantizedModel:
    """Raises DataError if the file is missing or is no whole artifact."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            "an artifact is a file that can be read", f"{path}: {error.strerror}", "check the path"
        ) from None
    return decode(data, str(path))


class _Reader:
    """Takes arrays off the front of a byte string."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, dtype: str, shape: list[int]) -> NDArray:
        count = int(np.prod(shape))
        out = np.frombuffer(self.data, dtype=dtype, count=count, offset=self.at).reshape(shape)
        self.at += count * np.dtype(dtype).itemsize
        return out.copy()


def _planes(data: bytes) -> bytes:
    """Float16 bytes with all low bytes first, then all high bytes: exponents lie together."""
    return data[0::2] + data[1::2]


def _unplanes(data: bytes) -> bytes:
    out = bytearray(len(data))
    out[0::2], out[1::2] = data[: len(data) // 2], data[len(data) // 2 :]
    return bytes(out)


def _tagged(name: str) -> bytes:
    return name.encode("ascii").ljust(8, b"\0")
