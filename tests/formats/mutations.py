"""Artifacts mutated at random, plainly or signed anew, and what opens of them.

`python -m tests.formats.mutations` opens 10,000 and prints how many opened and how many were refused, as JSON by
codec: a process of its own, since the test run's type checks would catch what should be refused by itself.
"""

import json
import random
import struct
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

from pgolf.errors import DataError
from pgolf.formats.blob import HALVES, decode, encode
from pgolf.formats.quantized import array_shapes
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.pack.zstd_packer import ZstdPacker
from tests.formats.forge import forged, opened, resized, signed
from tests.formats.samples import quantized

PACKERS = {
    "ans": AnsPacker(),
    "brotli": BrotliPacker(quality=4),
    "turned": BrotliPacker(quality=4, transpose=True),
    "lzma": LzmaPacker(preset=1),
    "zstd": ZstdPacker(level=3),
}
FILES_OF_A_CODEC = 10_000 // len(PACKERS)
STRANGE = [
    None, True, -1, 0, 1, 2, 3, 7, 11, 255, 256, 65_536, 2**22, 2**31, 2**40, 2**63, 2**64, 10**30, 0.5, 1e300,
    float("nan"), float("inf"), "", "q", "scaled", "low_rank", "grouped", "ans", "brotli", "lzma", "zstd",
    [], {}, [[]], [1, 2], ["scaled", 1, 1, False], {"a": 1},
]  # fmt: skip

Rng = random.Random
Mutation = Callable[[bytes, Rng], bytes]


def flipped(data: bytes, rng: Rng) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 40])):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(data: bytes, rng: Rng) -> bytes:
    begin, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice([data[:end], data[begin:], data[:begin] + data[end:]])


def inserted(data: bytes, rng: Rng) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice([1, 2, 4, 50])) + data[at:]


def swapped(data: bytes, rng: Rng) -> bytes:
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


BYTES: list[Mutation] = [flipped, cut, inserted, swapped]


def body_forged(data: bytes, rng: Rng) -> bytes:
    """Bytes of the body altered, lengths and compressed header among them."""
    return signed(rng.choice(BYTES)(data[40:], rng))


def header_forged(data: bytes, rng: Rng) -> bytes:
    """One or two values of the header replaced, dropped or said twice."""
    header, codes, halves = opened(data)
    for _ in range(rng.choice([1, 1, 2])):
        _strange(header, rng)
    return forged(header, codes, halves)


def streams_forged(data: bytes, rng: Rng) -> bytes:
    """Codes or halves altered, with a header that knows how long they are now."""
    header, codes, halves = opened(data)
    mutate = rng.choice(BYTES)
    if rng.random() < 0.75 or not halves:
        return resized(header, mutate(codes, rng), halves)
    return resized(header, codes, mutate(halves, rng))


def lengths_forged(data: bytes, rng: Rng) -> bytes:
    """The four bytes of a length in the body, wherever one is: a header's, or a stream's."""
    header, codes, halves = opened(data)
    out = bytearray(codes)
    if header["codec"] != "ans" and rng.random() < 0.8:
        at = 1 + 5 * rng.randrange(codes[0])
        out[at : at + 5] = struct.pack("<BI", rng.randrange(256), rng.choice([0, 1, 77, 2**31, 2**32 - 1]))
        return resized(header, bytes(out), halves)
    body = bytearray(data[40:])
    body[:4] = struct.pack("<I", rng.choice([0, 1, 77, len(body), 2**31, 2**32 - 1]))
    return signed(bytes(body))


def _strange(value: Any, rng: Rng) -> None:
    """Walk down to some item of a container and spoil it."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and rng.random() < 0.8:
            value = value[key]
            continue
        turn = rng.random()
        if turn < 0.1:
            del value[key]
        elif turn < 0.2 and isinstance(value, list):
            value.insert(key, deepcopy(value[key]))
        elif turn < 0.5 and isinstance(value[key], int):
            value[key] += rng.choice([-1, 1, 10, -10])
        else:
            value[key] = deepcopy(rng.choice(STRANGE))
        return


MUTATIONS: list[Mutation] = [
    *BYTES, *[body_forged] * 4, *[header_forged] * 6, *[streams_forged] * 4, *[lengths_forged] * 2
]  # fmt: skip


def opens_or_is_refused(data: bytes) -> bool:
    """Whether it opens; then everything in it is of the shape and the kind that its header claims."""
    try:
        model = decode(data)
    except DataError:
        return False
    header, _, _ = opened(data)
    assert [[name, role] for name, role, _ in header["matrices"]] == [
        [n, model.roles[n]] for n in model.matrices
    ]
    for name, _, tree in header["matrices"]:
        found = {part: tuple(a.shape) for part, a in model.matrices[name].arrays().items()}
        assert found == array_shapes(tree)
        for part, a in model.matrices[name].arrays().items():
            assert a.dtype == (torch.float16 if part == HALVES else torch.int16)
    assert [[n, list(t.shape)] for n, t in model.rest.items()] == header["rest"]
    assert (model.model, model.vocab_size) == (header["model"], header["vocab_size"])
    weights = model.weights()
    for name, m in model.matrices.items():
        assert tuple(weights[name].shape) == m.shape
        if HALVES not in m.arrays():
            assert weights[name].isfinite().all()
    return True


def counted(name: str) -> list[int]:
    """How many mutated artifacts opened, and how many were refused. Raises whatever went wrong otherwise."""
    whole, rng = encode(quantized(), PACKERS[name].codec()), random.Random(f"mutated {name}")
    out = [0, 0]
    for _ in range(FILES_OF_A_CODEC):
        spoilt = rng.choice(MUTATIONS)(whole, rng)
        while spoilt == whole:
            spoilt = rng.choice(MUTATIONS)(whole, rng)
        out[0 if opens_or_is_refused(spoilt) else 1] += 1
    return out


if __name__ == "__main__":
    print(json.dumps({name: counted(name) for name in PACKERS}))
