"""The file that a compressor writes: what it was made with, then frames, then an end.

    PGOLFTXT  version  header             JSON: artifact, tokenizer, evaluation, threads, machine
    frame     lengths, words, digests     of documents that were coded together
    end       number of frames, digest    of the whole text

Every part carries a digest of itself and every frame one of the text it stands for, so that an altered bit is
named before anything is decoded, and a decoder that computes other numbers than the encoder did (another artifact,
another machine) is found out by the first frame it gets wrong. Numbers are LEB128 varints.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

import numpy as np

from pgolf.certify.coder import Words
from pgolf.errors import DataError

MAGIC = b"PGOLFTXT"
VERSION = 3
SEAL_BYTES = 8  # of a digest that finds accidents
MOST_HEADER_BYTES, MOST_FRAME_BYTES = 1 << 20, 1 << 30
FRAME, END = b"F", b"E"


@dataclass(frozen=True)
class Frame:
    """Documents that were coded together."""

    lengths: list[int]  # tokens of each document, BOS not included
    words: Words
    text: bytes  # digest of what the documents stand for


def write_header(stream: BufferedIOBase, header: dict[str, Any]) -> None:
    body = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    stream.write(MAGIC + bytes([VERSION]) + _sealed(body))


def write_frame(stream: BufferedIOBase, frame: Frame) -> None:
    words = frame.words.astype("<u4").tobytes()
    lengths = varints([len(frame.lengths), *frame.lengths])
    body = frame.text + varints([len(lengths)]) + lengths + words
    stream.write(FRAME + _sealed(body))


def write_end(stream: BufferedIOBase, frames: int, digest: bytes) -> None:
    stream.write(END + _sealed(varints([frames]) + digest))


def read_header(stream: BufferedIOBase) -> dict[str, Any]:
    """Raises DataError if this is no such file, one of another version, or damaged."""
    head = stream.read(len(MAGIC) + 1)
    if head[: len(MAGIC)] != MAGIC:
        raise DataError(
            "a compressed file begins with PGOLFTXT", repr(head[:8]), "give what `pgolf compress` wrote"
        )
    if head[len(MAGIC) :] != bytes([VERSION]):
        raise DataError(f"a compressed file is of version {VERSION}", repr(head[len(MAGIC) :]),
                        "decompress it with the pgolf that wrote it")  # fmt: skip
    try:
        found = json.loads(_opened(stream, MOST_HEADER_BYTES))
    except ValueError as error:
        raise _damaged(f"its header is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise _damaged("its header is no mapping")
    return found


def read_frames(stream: BufferedIOBase) -> Iterator[Frame | tuple[int, bytes]]:
    """The frames, and at last (number of frames, digest of all text).

    Raises:
        DataError: at the first part that is damaged or missing.
    """
    while (kind := stream.read(1)) == FRAME:
        yield _frame(_opened(stream, MOST_FRAME_BYTES))
    if kind != END:
        raise _damaged("it breaks off before its end")
    body = _opened(stream, MOST_HEADER_BYTES)
    frames, at = varint(body, 0)
    if stream.read(1):
        raise _damaged("something follows its end")
    yield frames, body[at:]


def digest_of_text(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[: 2 * SEAL_BYTES]


def varints(numbers: Iterable[int]) -> bytes:
    """Numbers from 0 on, seven bits a byte, low ones first."""
    out = bytearray()
    for number in numbers:
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return bytes(out)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises DataError if there is none."""
    value = shift = 0
    while at < len(data) and shift < 63:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at
    raise _damaged("a number is cut short")


def _frame(body: bytes) -> Frame:
    text, at = body[: 2 * SEAL_BYTES], 2 * SEAL_BYTES
    size, at = varint(body, at)
    end = at + size
    count, at = varint(body, at)
    lengths = []
    for _ in range(min(count, size)):
        length, at = varint(body, at)
        lengths.append(length)
    if at != end or len(lengths) != count or (len(body) - end) % 4:
        raise _damaged("a frame's lengths do not fit it")
    return Frame(lengths, np.frombuffer(body, dtype="<u4", offset=end).astype(np.uint32), text)


def _sealed(body: bytes) -> bytes:
    return varints([len(body)]) + hashlib.sha256(body).digest()[:SEAL_BYTES] + body


def _opened(stream: BufferedIOBase, most: int) -> bytes:
    """The next sealed part. Raises DataError if it is altered, cut short or too large to be one."""
    head = b""
    while len(head) < 9 and (not head or head[-1] > 127):
        if not (byte := stream.read(1)):
            raise _damaged("it breaks off")
        head += byte
    size, _ = varint(head, 0)
    if size > most:
        raise _damaged(f"a part claims {size} bytes")
    seal, body = stream.read(SEAL_BYTES), stream.read(size)
    if len(body) != size:
        raise _damaged("it breaks off")
    if hashlib.sha256(body).digest()[:SEAL_BYTES] != seal:
        raise _damaged("a part was altered")
    return body


def _damaged(why: str) -> DataError:
    return DataError("a compressed file is whole", why, "get it again, or compress the text again")
