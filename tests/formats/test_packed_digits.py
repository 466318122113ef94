"""Digits of ternary and binary codes: bytes worked out by hand, every size back, foreign bytes refused."""

import lzma

import brotli
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.formats import packed_digits as p
from pgolf.formats.byte_codec import (
    BASE3,
    BITMASK,
    BYTES,
    FORM,
    SIGNS,
    TURNED,
    WIDE,
    decode_bytes,
    encode_bytes,
)

FORMS = {
    "base3": (p.to_base3, p.from_base3),
    "bitmask": (p.to_bitmask, p.from_bitmask),
    "signs": (p.to_signs, p.from_signs),
}
forms = pytest.mark.parametrize("form", FORMS)


def codes(*values: int) -> np.ndarray:
    return np.array(values, np.int16)


def drawn(seed: int, count: int, share_of_zeros: float = 0.31) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(seed))
    signs = rng.choice(np.array([-1, 1], np.int16), count)
    return np.where(rng.random(count) < share_of_zeros, 0, signs).astype(np.int16)


def test_base3_by_hand():
    """Digits 2 1 0 2 1: 2 + 3 + 0 + 54 + 81 = 140. The sixth, 0, begins a byte that is then 0."""
    assert p.to_base3(codes(1, 0, -1, 1, 0)) == bytes([140])
    assert p.to_base3(codes(1, 0, -1, 1, 0, -1)) == bytes([140, 0])
    assert p.to_base3(codes(1, 1, 1, 1, 1)) == bytes([242])
    assert p.to_base3(codes(1)) == bytes([2])


def test_bitmask_by_hand():
    """Nonzero: 1 0 1 1 0 0 0 0, then 1 and padding; signs of the four: + - - +."""
    assert p.to_bitmask(codes(1, 0, -1, -1, 0, 0, 0, 0, 1)) == bytes([0b10110000, 0b10000000, 0b01100000])
    assert p.to_bitmask(codes(0, 0)) == bytes([0])


def test_signs_by_hand():
    """From the lowest bit on."""
    assert p.to_signs(codes(1, -1, -1, 1, 1, -1, -1, -1, 1)) == bytes([0b00011001, 1])


@forms
@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 7, 8, 9, 15, 16, 17, 128])
def test_every_size_comes_back(form, count):
    write, read = FORMS[form]
    given_ = drawn(count, count, 0.0 if form == "signs" else 0.31)
    back = read(write(given_), count)
    assert back.dtype == np.int16
    assert back.tolist() == given_.tolist()


@forms
@given(values=st.lists(st.sampled_from([-1, 0, 1]), max_size=60))
def test_all_codes_come_back(form, values):
    write, read = FORMS[form]
    wanted = [v or 1 for v in values] if form == "signs" else values
    assert read(write(codes(*wanted)), len(wanted)).tolist() == wanted


@pytest.mark.parametrize(("form", "data", "count"), [
    ("base3", bytes([243]), 5), ("base3", bytes([255]), 5), ("base3", bytes([140]), 6),
    ("base3", bytes([140, 0]), 5), ("base3", b"", 1), ("base3", bytes([9]), 2),
    ("bitmask", b"", 1), ("bitmask", bytes([0b10000000]), 3), ("bitmask", bytes([0b10000000, 0, 0]), 3),
    ("bitmask", bytes([0b00010000, 0]), 3), ("bitmask", bytes([0b10000000, 0b01000000]), 3),
    ("bitmask", bytes([0, 0]), 3),
    ("signs", b"", 1), ("signs", bytes([1, 0]), 3), ("signs", bytes([0b1000]), 3),
])  # fmt: skip
def test_what_no_writer_makes_is_refused(form, data, count):
    """Bytes too many or too few, digits above 2, and anything behind the last digit."""
    with pytest.raises(ValueError):
        FORMS[form][1](data, count)


@forms
@given(data=st.binary(max_size=12), count=st.integers(0, 40))
def test_any_bytes_are_refused_or_are_the_one_form_of_their_codes(form, data, count):
    write, read = FORMS[form]
    try:
        back = read(data, count)
    except ValueError:
        return
    assert write(back) == data


# ------------------------------------------------------------------------- in the codec of byte packers


COMPRESS = {
    "brotli": lambda data: brotli.compress(data, quality=11),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE, 9),
}
RARE = drawn(1, 4096, 0.9).reshape(64, 64)
EVEN = drawn(2, 4096, 1 / 3).reshape(64, 64)
COIN = drawn(3, 4096, 0.0).reshape(64, 64)
ONCE = np.tile(codes(1, 0, -1, 0), (64, 16))
WORD = np.full((64, 64), 7, np.int16)


def packed(codec: str, array: np.ndarray, turn: bool = False) -> tuple[int, bytes]:
    """(flags, everything) of one array on its own."""
    data = encode_bytes([array], ["mlp"], COMPRESS[codec], turn)
    assert data[0] == 1
    return data[1], data


@pytest.mark.parametrize("codec", COMPRESS)
@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize(
    "array", [RARE, EVEN, COIN, ONCE, WORD], ids=["rare", "even", "coin", "once", "word"]
)
def test_what_compresses_smallest_is_kept_and_comes_back(codec, turn, array):
    flags, data = packed(codec, array, turn)
    assert bool(flags & TURNED) == turn
    laid = (array.T if turn else array).ravel()
    tried = {BYTES: laid.astype("i1").tobytes()}
    if abs(array).max() == 1:
        tried |= {BASE3: p.to_base3(laid), BITMASK: p.to_bitmask(laid)}
        if array.all():
            tried[SIGNS] = p.to_signs(laid)
    sizes = {form: len(COMPRESS[codec](raw)) for form, raw in tried.items()}
    assert len(data) == 1 + 5 + min(sizes.values())
    assert sizes[flags & FORM] == min(sizes.values())
    (back,) = decode_bytes(codec, data, [array.shape], ["mlp"])
    assert back.dtype == np.int16
    assert np.array_equal(back, array)


def test_each_form_has_codes_that_it_is_best_for():
    assert packed("lzma", EVEN)[0] & FORM == BASE3
    assert packed("lzma", drawn(2, 4096, 0.5).reshape(64, 64))[0] & FORM == BITMASK
    assert packed("lzma", COIN)[0] & FORM == SIGNS
    assert packed("brotli", ONCE)[0] & FORM == BYTES


def test_digits_cost_what_they_hold():
    """Four thousand random ternary codes: 1.6 bits each; coins: one bit each."""
    head = len(COMPRESS["lzma"](b"")) + 6
    assert len(packed("lzma", EVEN)[1]) < 4096 * 1.6 / 8 + head + 80
    assert len(packed("lzma", COIN)[1]) < 4096 / 8 + head + 80


@pytest.mark.parametrize(
    "array", [np.zeros((0, 8), np.int16), codes(1).reshape(1, 1), codes(300).reshape(1, 1)]
)
def test_hostile_sizes_come_back(array):
    for codec in COMPRESS:
        flags, data = packed(codec, array)
        assert bool(flags & WIDE) == (array.size > 0 and abs(array).max() > 127)
        (back,) = decode_bytes(codec, data, [array.shape], ["mlp"])
        assert np.array_equal(back, array)


def test_groups_are_packed_each_in_its_own_form():
    arrays = [EVEN, WORD, COIN, np.arange(64, dtype=np.int16)]
    groups = ["mlp", "embedding", "attention", "embedding"]
    data = encode_bytes(arrays, groups, COMPRESS["lzma"], False)
    back = decode_bytes("lzma", data, [a.shape for a in arrays], groups)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, back, strict=True))


@pytest.mark.parametrize("form", [BASE3, BITMASK, SIGNS])
def test_a_stream_under_a_false_flag_is_refused(form):
    raw = COMPRESS["lzma"](np.full(4096, 255, np.uint8).tobytes())
    forged = bytes([1, form]) + len(raw).to_bytes(4, "little") + raw
    with pytest.raises(ValueError):
        decode_bytes("lzma", forged, [(64, 64)], ["mlp"])
