"""Integer arrays as bytes for a general compressor, group by group: what weights' own coder is measured against.

One code per byte where a group's codes fit one, else all low bytes before all high bytes. Bit-packing hides the
histogram from the compressor, so it is tried only where few levels leave no histogram to see: for groups of
nothing but -1, 0 and 1, every form of pgolf.formats.packed_digits, and what compresses smallest is kept. Step
codes are stored as differences from one row to the next.

    byte 0       number of streams
    per stream   flags (1: two bytes a code, 2: column by column, 4 times the form: bytes, base3, bitmask or
                 signs), uint32 length
    streams      back to back
"""

import lzma
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgolf.errors import DataError
from pgolf.formats import packed_digits
from pgolf.formats.blob import unpacked

Arrays = list[NDArray[np.int16]]
WIDE, TURNED = 1, 2
BYTES, BASE3, BITMASK, SIGNS = 0, 4, 8, 12  # forms
FORM = 12  # the bits of the flags that say which
STEPS = "steps"  # the group of all 1-D arrays
MOST_DICTIONARY = (
    1 << 27
)  # bytes that a stream may have its decoder allocate: twice what our encoders ask for
ZPAQ_SECONDS = 1800  # far above the minutes that 16 MB take


def encode_bytes(arrays: Arrays, groups: list[str], compress: Callable[[bytes], bytes], turn: bool) -> bytes:
    """`turn`: matrices column by column, which pays where columns differ in variance."""
    flags, streams = [], []
    for members in _grouped([a.shape for a in arrays], groups).values():
        parts = [_laid(arrays[i], turn) for i in members]
        values = np.concatenate(parts) if parts else np.zeros(0, np.int16)
        flag, stream = min(
            ((form, compress(raw)) for form, raw in _forms(values)), key=lambda made: len(made[1])
        )
        flags.append(flag | (TURNED if turn else 0))
        streams.append(stream)
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
    if len(data) < at:
        raise ValueError("the streams' lengths are cut short")
    for i, members in enumerate(grouped.values()):
        flag, length = struct.unpack_from("<BI", data, 1 + 5 * i)
        if flag & ~(WIDE | TURNED | FORM) or (flag & WIDE and flag & FORM):
            raise ValueError(f"flags {flag} of a stream")
        count = sum(prod(shapes[m]) for m in members)
        values = _values(codec, data[at : at + length], flag, count)
        at += length
        taken = 0
        for m in members:
            size = prod(shapes[m])
            out[m] = _lifted(values[taken : taken + size], shapes[m], bool(flag & TURNED))
            taken += size
    if at != len(data):
        raise ValueError("bytes after the last stream")
    return [out[i] for i in range(len(shapes))]


def _forms(values: NDArray[np.int16]) -> Iterator[tuple[int, bytes]]:
    """What codes may be written as, with the flag of each; the first of equals is kept."""
    if values.size and (values.min() < -128 or values.max() > 127):
        yield WIDE, values.astype("<i2").view(np.uint8).reshape(-1, 2).T.tobytes()
        return
    yield BYTES, values.astype("i1").tobytes()
    if values.size and np.abs(values).max() <= 1:
        yield BASE3, packed_digits.to_base3(values)
        yield BITMASK, packed_digits.to_bitmask(values)
        if values.all():
            yield SIGNS, packed_digits.to_signs(values)


def _values(codec: str, stream: bytes, flag: int, count: int) -> NDArray[np.int16]:
    """The codes of a stream. Raises ValueError if it does not hold `count` of them."""
    if flag & WIDE:
        raw = decompressed(codec, stream, 2 * count)
        return np.frombuffer(raw, np.uint8).reshape(2, -1).T.copy().view("<i2").ravel().astype(np.int16)
    form = flag & FORM
    if form == BASE3:
        size = -(-count // packed_digits.PER_BYTE)
        return packed_digits.from_base3(decompressed(codec, stream, size), count)
    if form == BITMASK:
        raw = decompressed(codec, stream, packed_digits.most_bitmask(count), least=0)
        return packed_digits.from_bitmask(raw, count)
    if form == SIGNS:
        return packed_digits.from_signs(decompressed(codec, stream, -(-count // 8)), count)
    return np.frombuffer(decompressed(codec, stream, count), "i1").astype(np.int16)


def decompressed(codec: str, data: bytes, size: int, least: int | None = None) -> bytes:
    """Exactly `size` bytes, or from `least` to that. Raises ValueError if the stream holds anything else."""
    raw = _UNPACKED[codec](data, size)
    if not (size if least is None else least) <= len(raw) <= size:
        raise ValueError(f"a {codec} stream of {len(raw)} bytes where {size} belong")
    return raw


def _lzma(data: bytes, most: int) -> bytes:
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_DICTIONARY)
    try:
        raw = stream.decompress(data, most + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"an LZMA stream: {error}") from None
    if not stream.eof or stream.unused_data:
        raise ValueError("an LZMA stream goes on, or bytes follow it")
    return raw


def _zstd(data: bytes, most: int) -> bytes:
    import zstandard

    try:
        if zstandard.get_frame_parameters(data).content_size > most:
            raise ValueError(f"a Zstandard frame of more than {most} bytes, or of any number")
        unpack = zstandard.ZstdDecompressor(max_window_size=MOST_DICTIONARY).decompress
        return bytes(unpack(data, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise ValueError(f"a Zstandard frame: {error}") from None


def _zpaq(data: bytes, most: int) -> bytes:
    return zpaq(data, ["-d"], most)


_UNPACKED: dict[str, Callable[[bytes, int], bytes]] = {
    "brotli": unpacked, "lzma": _lzma, "zstd": _zstd, "zpaq": _zpaq
}  # fmt: skip


def zpaq(data: bytes, options: list[str], most: int | None = None) -> bytes:
    """Through the program lrzip (ZPAQ), which may write `most` bytes.

    Raises:
        DataError: if it is not installed.
        ValueError: if it fails.
    """
    lrzip = shutil.which("lrzip")
    if not lrzip:
        raise DataError("the zpaq codec needs the program lrzip", "not found on the path",
                        "install it (apt-get install lrzip), or another pack.kind")  # fmt: skip
    blocks = "unlimited" if most is None else str(most // 512 + 1)
    with tempfile.TemporaryDirectory() as work:
        given, made = Path(work) / "given.lrz", Path(work) / "made"
        given.write_bytes(data)
        words = [lrzip, "-q", "-f", "-p", "1", *options, "-o", str(made), str(given)]
        try:
            done = subprocess.run(
                ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *words], capture_output=True,
                env={**os.environ, "LRZIP": "NOCONFIG"}, timeout=ZPAQ_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ValueError(f"lrzip: more than {ZPAQ_SECONDS} seconds") from None
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
