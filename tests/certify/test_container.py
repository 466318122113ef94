"""The compressed file: it comes back, and no damage goes unnoticed."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.certify.container import (
    Frame,
    digest_of_text,
    read_frames,
    read_header,
    varint,
    varints,
    write_end,
    write_frame,
    write_header,
)  # fmt: skip
from pgolf.errors import DataError

HEADER = {"artifact": "a" * 64, "evaluate": {"kind": "blocks"}, "threads": 1}


def written(frames: list[tuple[list[int], list[int], bytes]]) -> bytes:
    stream = io.BytesIO()
    write_header(stream, HEADER)
    for lengths, words, text in frames:
        write_frame(stream, Frame(lengths, np.array(words, dtype=np.uint32), digest_of_text(text)))
    write_end(stream, len(frames), digest_of_text(b"all"))
    return stream.getvalue()


def read(data: bytes) -> list:
    stream = io.BytesIO(data)
    assert read_header(stream) == HEADER
    return list(read_frames(stream))


FRAMES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2**40), max_size=5),
        st.lists(st.integers(0, 2**32 - 1), max_size=6),
        st.binary(max_size=9),
    ),
    max_size=3,
)


@given(frames=FRAMES)
def test_it_comes_back(frames):
    *parts, end = read(written(frames))
    assert [(p.lengths, p.words.tolist(), p.text) for p in parts] == [
        (n, w, digest_of_text(t)) for n, w, t in frames
    ]
    assert end == (len(frames), digest_of_text(b"all"))


WHOLE = written([([3, 0, 300], [1, 2, 3], b"text"), ([1], [], b"")])


@pytest.mark.parametrize("at", range(len(WHOLE)))
def test_any_flipped_bit_is_named(at):
    for bit in (0, 7):
        altered = bytearray(WHOLE)
        altered[at] ^= 1 << bit
        with pytest.raises(DataError):
            read(bytes(altered))


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_any_missing_end_is_named(size):
    with pytest.raises(DataError):
        read(WHOLE[:size])


@pytest.mark.parametrize("more", [b"\0", b"F", WHOLE])
def test_whatever_follows_is_named(more):
    with pytest.raises(DataError, match="follows its end"):
        read(WHOLE + more)


@given(numbers=st.lists(st.integers(0, 2**60)))
def test_numbers_come_back(numbers):
    data, at, found = varints(numbers), 0, []
    while at < len(data):
        number, at = varint(data, at)
        found.append(number)
    assert found == numbers


def test_a_part_that_claims_to_be_huge_is_not_waited_for():
    with pytest.raises(DataError, match="claims"):
        read(WHOLE[:9] + varints([1 << 50]) + WHOLE[12:])
