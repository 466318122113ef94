"""Integer arrays as bytes for a general compressor, group by group: what weights' own coder is measured against.

One code per byte where a group's codes fit one, else all low bytes before all high bytes; never bit-packed,
which would hide the histogram from the compressor. Step codes are stored as differences from one row to the next.

    byte 0       number of streams
    per stream   flags (1: two bytes a code, 2: column by column), uint32 length
    streams      back to back
"""

import lzma
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path

import brotli
import numpy as np
from numpy.typing import NDArray

from pgolf.errors import DataError

Arrays = list[NDArray[np.int16]]
WIDE, TURNED = 1, 2
STEPS = "steps"  # the group of all 1-D arrays


def encode_bytes(arrays: Arrays, groups: list[str], compress: Callable[[bytes], bytes], turn: bool) -> bytes:
    """`turn`: matrices column by column, which pays where columns differ in variance."""
    flags, streams = [], []
    for members in _grouped([a.shape for a in arrays], groups).values():
        parts = [_laid(arrays[i], turn) for i in members]
        values = np.concatenate(parts) if parts else np.zeros(0, np.int16)
        wide = bool(values.size) and (values.min() < -128 or values.max() > 127)
        raw = (
            values.astype("<i2").view(np.uint8).reshape(-1, 2).T.tobytes()
            if wide
            else values.astype("i1").tobytes()
        )
        flags.append((WIDE if wide else 0) | (TURNED if turn else 0))
        streams.append(compress(raw))
    head = bytes([len(streams)]) + b"".join(
        struct.pack("<BI", flag, len(s)) for flag, s in zip(flags, streams, strict=True)
    )
    return head + b"".join(streams)


def decode_bytes(codec: str, data: bytes, shapes: list[tuple[int, ...]], groups: list[str]) -> Arrays:
    """Raises ValueError if `data` does not hold arrays of these shapes."""
    grouped, out = _grouped(shapes, groups), dict[int, NDArray[np.int16]]()
    if not data or data[0] != len(grouped):
        raise ValueError("streams and groups differ in number")
    at = 1 + 5 * len(grouped)
    for i, members in enumerate(grouped.values()):
        flag, length = struct.unpack_from("<BI", data, 1 + 5 * i)
        count = sum(prod(shapes[m]) for m in members)
        raw = decompressed(codec, data[at : at + length], count * (2 if flag & WIDE else 1))
        at += length
        if flag & WIDE:
            values = np.frombuffer(raw, np.uint8).reshape(2, -1).T.copy().view("<i2").ravel().astype(np.int16)
        else:
            values = np.frombuffer(raw, "i1").astype(np.int16)
        taken = 0
        for m in members:
            size = prod(shapes[m])
            out[m] = _lifted(values[taken : taken + size], shapes[m], bool(flag & TURNED))
            taken += size
    if at != len(data):
        raise ValueError("bytes after the last stream")
    return [out[i] for i in range(len(shapes))]


def decompressed(codec: str, data: bytes, size: int) -> bytes:
    """Exactly `size` bytes. Raises ValueError if the stream holds anything else."""
    try:
        if codec == "brotli":
            raw = brotli.Decompressor().process(data, output_buffer_limit=size + 1) if size else b""
        elif codec == "lzma":
            raw = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data, size + 1)
        elif codec == "zstd":
            import zstandard

            raw = zstandard.ZstdDecompressor().decompressobj().decompress(data) if size else b""
        else:
            raw = zpaq(data, ["-d"])
    except (brotli.error, lzma.LZMAError, EOFError, OSError) as error:
        raise ValueError(f"a {codec} stream: {error}") from None
    if len(raw) != size:
        raise ValueError(f"a {codec} stream of {len(raw)} bytes where {size} belong")
    return raw


def zpaq(data: bytes, options: list[str]) -> bytes:
    """Through the program lrzip (ZPAQ). Raises DataError if it is not installed."""
    if not shutil.which("lrzip"):
        raise DataError("the zpaq codec needs the program lrzip", "not found on the path",
                        "install it (apt-get install lrzip), or another pack.kind")  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        given, made = Path(work) / "given.lrz", Path(work) / "made"
        given.write_bytes(data)
        done = subprocess.run(
            ["lrzip", "-q", "-f", *options, "-o", str(made), str(given)], capture_output=True
        )
        if done.returncode or not made.exists():
            raise ValueError(f"lrzip: {done.stderr.decode(errors='replace')[-200:]}")
        return made.read_bytes()


def _grouped(shapes: list[tuple[int, ...]], groups: list[str]) -> dict[str, list[int]]:
    """The arrays of each stream, groups in alphabetical order."""
    out: dict[str, list[int]] = {}
    for i, (shape, group) in enumerate(zip(shapes, groups, strict=True)):
        out.setdefault(group if len(shape) == 2 else STEPS, []).append(i)
    return dict(sorted(out.items()))


def _laid(array: NDArray[np.int16], turn: bool) -> NDArray[np.int16]:
    if array.ndim == 1:
        return np.diff(array, prepend=np.int16(0))
    return (array.T if turn else array).ravel()


def _lifted(values: NDArray[np.int16], shape: tuple[int, ...], turned: bool) -> NDArray[np.int16]:
    if len(shape) == 1:
        return np.cumsum(values, dtype=np.int16)
    laid = values.reshape(shape[::-1] if turned else shape)
    return np.ascontiguousarray(laid.T if turned else laid)
