"""Integer arrays as bytes: what goes in comes out, by every compressor, and streams that are not whole are refused."""

import lzma
import shutil
import struct

import brotli
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgolf.errors import DataError
from pgolf.formats.byte_codec import decode_bytes, decompressed, encode_bytes, zpaq
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.pack.zstd_packer import ZstdPacker

PACKERS = {
    "brotli": BrotliPacker(quality=2),
    "brotli, turned": BrotliPacker(quality=2, transpose=True),
    "lzma": LzmaPacker(preset=0),
    "lzma, turned": LzmaPacker(preset=0, transpose=True),
    "zstd": ZstdPacker(level=1),
    "zstd, turned": ZstdPacker(level=1, transpose=True),
}
needs_lrzip = pytest.mark.skipif(not shutil.which("lrzip"), reason="lrzip is not installed")

VALUES = st.sampled_from([st.integers(-2, 2), st.integers(-128, 127), st.integers(-32_768, 32_767)])
SHAPES = st.one_of(
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=7), st.tuples(st.integers(0, 9))
)


@st.composite
def grouped_arrays(draw):
    """Arrays of one and two axes, a group each."""
    shapes = draw(st.lists(SHAPES, max_size=6))
    arrays = [draw(hnp.arrays(np.int16, shape, elements=draw(VALUES))) for shape in shapes]
    return arrays, [draw(st.sampled_from(["mlp", "attention", "steps"])) for _ in arrays]


def back(packer, arrays, groups):
    codec = packer.codec()
    return decode_bytes(codec.name, codec.encode(arrays, groups), [a.shape for a in arrays], groups)


def assert_same(got, want):
    assert [a.shape for a in got] == [a.shape for a in want]
    for a, b in zip(got, want, strict=True):
        assert a.dtype == np.int16
        assert a.flags.c_contiguous and a.flags.writeable
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", PACKERS)
@settings(max_examples=80)
@given(given=grouped_arrays())
def test_any_arrays_come_back(name, given):
    assert_same(back(PACKERS[name], *given), given[0])


@pytest.mark.parametrize("name", PACKERS)
def test_extremes_come_back_in_step_codes_too(name):
    """Differences of step codes wrap around, and back."""
    steps = np.array([-32_768, 32_767, 0, -1, 32_767, -32_768], np.int16)
    codes = np.array([[-32_768, 32_767], [0, -129]], np.int16)
    assert_same(back(PACKERS[name], [steps, codes], ["mlp", "mlp"]), [steps, codes])


def raw_streams(arrays, groups, turn=False):
    """(flags, what was handed to the compressor), stream by stream."""
    data = encode_bytes(arrays, groups, bytes, turn)
    heads = [struct.unpack_from("<BI", data, 1 + 5 * i) for i in range(data[0])]
    at, out = 1 + 5 * data[0], []
    for flag, length in heads:
        out.append((flag, data[at : at + length]))
        at += length
    assert at == len(data)
    return out


def test_the_layout_by_hand():
    """Two groups in alphabetical order, then the steps as differences; small codes in a byte, others low byte first."""
    small = np.array([[1, -2], [3, 127]], np.int16)
    large = np.array([[1, 256], [-1, 128]], np.int16)
    steps = [np.array([-40, -41, -38], np.int16), np.array([5], np.int16)]
    arrays, groups = [large, steps[0], small, steps[1]], ["mlp", "mlp", "attention", "attention"]
    assert raw_streams(arrays, groups) == [
        (0, b"\x01\xfe\x03\x7f"),
        (1, b"\x01\x00\xff\x80" + b"\x00\x01\xff\x00"),
        (0, b"\xd8\xff\x03\x05"),
    ]
    assert raw_streams(arrays, groups, turn=True) == [
        (2, b"\x01\x03\xfe\x7f"),
        (3, b"\x01\xff\x00\x80" + b"\x00\xff\x01\x00"),
        (2, b"\xd8\xff\x03\x05"),
    ]


@pytest.mark.parametrize(("value", "wide"), [(127, False), (128, True), (-128, False), (-129, True)])
def test_a_code_that_no_byte_holds_makes_its_group_wide(value, wide):
    (other, _), (flag, _) = raw_streams([np.full((2, 2), v, np.int16) for v in (127, value)], ["a", "b"])
    assert (other, flag) == (0, int(wide))


def packed(name: str, data: bytes) -> bytes:
    if name == "brotli":
        return brotli.compress(data)
    if name == "lzma":
        return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE)
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("codec", ["brotli", "lzma", "zstd"])
@pytest.mark.parametrize("size", [0, 1, 5000, 200_000])
def test_a_stream_is_exactly_as_long_as_it_should_be(codec, size):
    data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes()
    stream = packed(codec, data)
    assert decompressed(codec, stream, size) == data
    for wrong in (size - 1, size + 1):
        with pytest.raises(ValueError, match=r"stream|frame"):
            decompressed(codec, stream, wrong)
    for spoilt in (stream[:-1], stream + b"\0", stream + stream, b"", b"\xff" * 40) if size else ():
        with pytest.raises(ValueError):
            decompressed(codec, spoilt, size)


def test_data_that_hold_other_arrays_are_refused():
    arrays, groups = [np.full((3, 4), 5, np.int16), np.ones(3, np.int16)], ["mlp", "mlp"]
    data = encode_bytes(arrays, groups, brotli.compress, turn=False)
    shapes = [a.shape for a in arrays]
    assert_same(decode_bytes("brotli", data, shapes, groups), arrays)
    for spoilt in (b"", data[:1], data[:7], data[:-1], data + b"\0", bytes([3]) + data[1:]):
        with pytest.raises(ValueError):
            decode_bytes("brotli", spoilt, shapes, groups)
    for other in ([(3, 5), (3,)], [(3, 3), (3,)], [(3, 4), (2,)], [(3, 4)], []):
        with pytest.raises(ValueError):
            decode_bytes("brotli", data, other, groups[: len(other)])


def test_a_flag_that_means_nothing_is_refused():
    arrays, groups = [np.ones((3, 4), np.int16)], ["mlp"]
    data = bytearray(encode_bytes(arrays, groups, brotli.compress, turn=False))
    data[1] |= 0x80
    with pytest.raises(ValueError, match="flags"):
        decode_bytes("brotli", bytes(data), [(3, 4)], groups)


def test_zpaq_is_refused_clearly_where_lrzip_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"needs the program lrzip(.|\n)*install it"):
        zpaq(b"codes", ["-z"])
    with pytest.raises(DataError, match="lrzip"):
        decompressed("zpaq", b"codes", 5)


@needs_lrzip
def test_what_zpaq_may_write_is_bounded():
    stream = zpaq(bytes(20_000_000), ["-l"])
    assert decompressed("zpaq", stream, 20_000_000) == bytes(20_000_000)
    with pytest.raises(ValueError):
        decompressed("zpaq", stream, 4096)


@needs_lrzip
def test_zpaq_streams_that_are_not_whole_are_refused():
    stream = zpaq(b"codes" * 50, ["-z"])
    for spoilt in (stream[:-1], stream[:20], b"", b"no lrzip file", stream[:30] + b"\xff\xff" + stream[32:]):
        with pytest.raises(ValueError):
            decompressed("zpaq", spoilt, 250)
