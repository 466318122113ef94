"""Artifacts that someone altered and signed anew."""

import hashlib
import json
import struct
from typing import Any

import brotli

from pgolf.formats.blob import MAGIC


def opened(data: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """The header, the codes and the halves of an artifact."""
    end = 44 + struct.unpack("<I", data[40:44])[0]
    header = json.loads(brotli.decompress(data[44:end]))
    return header, data[end : end + header["sizes"][0]], data[end + header["sizes"][0] :]


def signed(body: bytes) -> bytes:
    """An artifact with the SHA-256 that its body has."""
    return MAGIC + hashlib.sha256(body).digest() + body


def forged(header: Any, codes: bytes, halves: bytes) -> bytes:
    """An artifact of these parts; the lengths in the header are as they were given."""
    return with_header(json.dumps(header).encode(), codes, halves)


def with_header(text: bytes, codes: bytes, halves: bytes, quality: int = 1) -> bytes:
    packed = brotli.compress(text, quality=quality)
    return signed(struct.pack("<I", len(packed)) + packed + codes + halves)


def resized(header: dict[str, Any], codes: bytes, halves: bytes) -> bytes:
    """An artifact whose header gives the lengths that these streams have."""
    return forged({**header, "sizes": [len(codes), len(halves)]}, codes, halves)
