"""Codes of ternary and binary weights in fewer bytes than one each (PR 640).

    base3     digits d = q + 1, five a byte: d0 + 3 d1 + 9 d2 + 27 d3 + 81 d4, zeros behind the last
    bitmask   a bit for every weight: is it nonzero?; then a bit for every nonzero one: is it negative?
              each array from the highest bit of its first byte on, zeros behind the last
    signs     a bit for every weight, is it 1?, from the lowest bit on: where no weight is zero

A general compressor finds a little more in some, where zeros are common in one or codes repeat in another, and
one code a byte lets it see most: whoever packs tries them all (pgolf.formats.byte_codec). A reader refuses what
no writer makes, so equal codes have one form of each kind.
"""

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int16]
WEIGHTS = np.array([1, 3, 9, 27, 81], np.uint8)  # of the digits in a byte
PER_BYTE = len(WEIGHTS)


def to_base3(codes: Codes) -> bytes:
    """Of -1, 0 and 1."""
    digits = np.zeros(-(-codes.size // PER_BYTE) * PER_BYTE, np.uint8)
    digits[: codes.size] = codes + 1
    return (digits.reshape(-1, PER_BYTE) * WEIGHTS).sum(1, dtype=np.uint8).tobytes()


def from_base3(data: bytes, count: int) -> Codes:
    """`count` codes. Raises ValueError if the bytes are not theirs."""
    packed = np.frombuffer(data, np.uint8)
    if packed.size != -(-count // PER_BYTE) or (packed >= 3**PER_BYTE).any():
        raise ValueError(f"{packed.size} bytes are not {count} digits of base 3")
    digits = packed[:, None] // WEIGHTS % 3
    return _whole(digits.ravel(), count).astype(np.int16) - np.int16(1)


def to_bitmask(codes: Codes) -> bytes:
    """Of -1, 0 and 1."""
    return np.packbits(codes != 0).tobytes() + np.packbits(codes[codes != 0] < 0).tobytes()


def from_bitmask(data: bytes, count: int) -> Codes:
    """`count` codes. Raises ValueError if the bytes are not theirs."""
    packed, first = np.frombuffer(data, np.uint8), -(-count // 8)
    if packed.size < first:
        raise ValueError(f"{packed.size} bytes are no mask of {count} codes")
    nonzero = _whole(np.unpackbits(packed[:first]), count) == 1
    signs, signed = packed[first:], int(nonzero.sum())
    if signs.size != -(-signed // 8):
        raise ValueError(f"{signs.size} bytes are not {signed} signs")
    codes = np.zeros(count, np.int16)
    codes[nonzero] = 1 - 2 * _whole(np.unpackbits(signs), signed).astype(np.int16)
    return codes


def most_bitmask(count: int) -> int:
    """Bytes of a mask and its signs, at most."""
    return 2 * -(-count // 8)


def to_signs(codes: Codes) -> bytes:
    """Of -1 and 1."""
    return np.packbits(codes > 0, bitorder="little").tobytes()


def from_signs(data: bytes, count: int) -> Codes:
    """`count` codes. Raises ValueError if the bytes are not theirs."""
    packed = np.frombuffer(data, np.uint8)
    if packed.size != -(-count // 8):
        raise ValueError(f"{packed.size} bytes are not {count} bits")
    bits = _whole(np.unpackbits(packed, bitorder="little"), count)
    return bits.astype(np.int16) * np.int16(2) - np.int16(1)


def _whole(digits: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """The first `count` digits, behind which there are zeros."""
    if digits[count:].any():
        raise ValueError("digits behind the last one")
    return digits[:count]
