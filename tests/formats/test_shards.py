"""Shards: the challenge's layout byte for byte, and a refusal of whatever is not whole."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.errors import DataError
from pgolf.formats.shards import (
    read_shard,
    read_split,
    shard_name,
    shards_of,
    sidecar_name,
    sidecar_of,
    write_shard,
)

VALUES = st.lists(st.integers(0, 65_535), max_size=50).map(lambda v: np.array(v, dtype=np.uint16))


@given(values=VALUES)
def test_a_shard_comes_back(tmp_path, values):
    write_shard(tmp_path / "s.bin", values)
    got = read_shard(tmp_path / "s.bin")
    assert got.dtype == np.uint16
    assert got.tolist() == values.tolist()


def test_a_worked_example_byte_for_byte(tmp_path):
    """256 little-endian int32, of which three say something; then uint16."""
    write_shard(tmp_path / "s.bin", np.array([1, 258, 65_535], dtype=np.uint16))
    data = (tmp_path / "s.bin").read_bytes()
    assert data[:12] == struct.pack("<3i", 20240520, 1, 3)
    assert data[12:1024] == bytes(1012)
    assert data[1024:] == b"\x01\x00\x02\x01\xff\xff"


@pytest.mark.parametrize("cut", [0, 1, 11, 12, 600, 1023, 1024, 1025, 1033])
def test_a_shard_that_is_cut_anywhere_is_refused(tmp_path, cut):
    write_shard(tmp_path / "s.bin", np.arange(5, dtype=np.uint16))
    data = (tmp_path / "s.bin").read_bytes()
    assert len(data) == 1034
    (tmp_path / "s.bin").write_bytes(data[:cut])
    with pytest.raises(DataError):
        read_shard(tmp_path / "s.bin")


@pytest.mark.parametrize("extra", [b"\0", b"\0\0", b"more"])
def test_a_shard_with_more_than_its_header_says_is_refused(tmp_path, extra):
    write_shard(tmp_path / "s.bin", np.arange(5, dtype=np.uint16))
    with (tmp_path / "s.bin").open("ab") as stream:
        stream.write(extra)
    with pytest.raises(DataError, match="1034 bytes"):
        read_shard(tmp_path / "s.bin")


@pytest.mark.parametrize("words", [(20240521, 1, 5), (20240520, 2, 5), (20240520, 1, -5), (0, 0, 0)])
def test_a_foreign_header_is_refused(tmp_path, words):
    write_shard(tmp_path / "s.bin", np.arange(5, dtype=np.uint16))
    data = (tmp_path / "s.bin").read_bytes()
    (tmp_path / "s.bin").write_bytes(struct.pack("<3i", *words) + data[12:])
    with pytest.raises(DataError):
        read_shard(tmp_path / "s.bin")


def test_a_missing_shard_and_a_directory_are_refused(tmp_path):
    for name in ("gone.bin", "."):
        with pytest.raises(DataError, match="can be read"):
            read_shard(tmp_path / name)


def test_a_split_is_its_shards_in_order_with_their_sidecars(tmp_path):
    for i in (1, 0, 2):
        write_shard(tmp_path / shard_name("select", i), np.full(3, i, dtype=np.uint16))
        write_shard(tmp_path / sidecar_name("select", i), np.full(3, 10 + i, dtype=np.uint16))
    write_shard(tmp_path / shard_name("train"), np.arange(9, dtype=np.uint16))
    tokens, counts = read_split(tmp_path, "select")
    assert tokens.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (counts - tokens == 10).all()
    assert [sidecar_of(f, "select").name for f in shards_of(tmp_path, "select")] == [
        sidecar_name("select", i) for i in range(3)
    ]


def test_a_sidecar_of_another_length_or_none_is_refused(tmp_path):
    write_shard(tmp_path / shard_name("select"), np.arange(4, dtype=np.uint16))
    with pytest.raises(DataError, match="can be read"):
        read_split(tmp_path, "select")
    write_shard(tmp_path / sidecar_name("select"), np.arange(3, dtype=np.uint16))
    with pytest.raises(DataError, match="3 counts for 4 tokens"):
        read_split(tmp_path, "select")
    with pytest.raises(DataError, match="has a shard"):
        read_split(tmp_path, "validation")
