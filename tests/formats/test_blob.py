"""The artifact: what goes in comes out bit for bit, and a file that is not whole is refused unread."""

import hashlib
import json
import struct

import brotli
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.errors import DataError
from pgolf.formats.blob import MAGIC, Codec, decode, encode, read_artifact
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.pack.zstd_packer import ZstdPacker
from tests.formats.samples import assert_equal, quantized

PACKERS = {
    "brotli": BrotliPacker(quality=4),
    "turned": BrotliPacker(quality=4, transpose=True),
    "lzma": LzmaPacker(preset=1),
    "zstd": ZstdPacker(level=3),
}
WHOLE = {name: encode(quantized(), packer.codec()) for name, packer in PACKERS.items()}


@pytest.mark.parametrize("name", PACKERS)
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 9), cols=st.integers(1, 9),
       spread=st.sampled_from([0.4, 9.0, 60.0, 9000.0]))  # fmt: skip
def test_any_model_comes_back_bit_for_bit(name, seed, rows, cols, spread):
    model = quantized(seed, rows, cols, spread)
    assert_equal(decode(encode(model, PACKERS[name].codec())), model)


def test_equal_models_make_equal_bytes():
    for name, packer in PACKERS.items():
        assert encode(quantized(), packer.codec()) == WHOLE[name]
    assert encode(quantized(1), PACKERS["brotli"].codec()) != WHOLE["brotli"]


def test_the_layout_is_what_the_docstring_says():
    data = WHOLE["brotli"]
    assert data[:8] == MAGIC == b"PGOLF\0\0\2"
    assert data[8:40] == hashlib.sha256(data[40:]).digest()
    end = 44 + struct.unpack("<I", data[40:44])[0]
    header = json.loads(brotli.decompress(data[44:end]))
    assert header["codec"] == "brotli"
    assert header["model"] == {"layers": 1}
    assert header["vocab_size"] == 300
    assert header["matrices"][0] == ["a.w", "mlp", ["scaled", 6, 10, False]]
    assert header["rest"] == [["gäin", [10]], ["scalar", []], ["empty", [0]]]
    codes, halves = header["sizes"]
    assert end + codes + halves == len(data)
    model = quantized()
    values = np.concatenate([model.matrices["ternary"].alpha, model.rest["gäin"], model.rest["scalar"][None]])
    raw = values.astype("<f2").tobytes()
    assert brotli.decompress(data[end + codes :]) == raw[0::2] + raw[1::2]


@pytest.mark.parametrize("name", PACKERS)
def test_an_artifact_cut_anywhere_is_refused(name):
    data = WHOLE[name]
    for end in {*range(0, 60), *range(60, len(data), 7), len(data) - 1}:
        with pytest.raises(DataError):
            decode(data[:end])


@pytest.mark.parametrize("name", PACKERS)
def test_an_artifact_with_any_byte_flipped_is_refused(name):
    data = bytearray(WHOLE[name])
    for at in range(len(data)):
        for bit in (1, 0x80):
            data[at] ^= bit
            with pytest.raises(DataError):
                decode(bytes(data))
            data[at] ^= bit
    decode(bytes(data))


def test_an_artifact_with_bytes_after_its_end_is_refused():
    with pytest.raises(DataError, match="cut short or altered"):
        decode(WHOLE["brotli"] + b"\0")


@pytest.mark.parametrize("data", [b"", b"PGOLF", b"PK\3\4" + b"x" * 90, MAGIC[:7] + b"\1" + b"x" * 90])
def test_a_foreign_file_is_refused(data):
    with pytest.raises(DataError, match="begins with PGOLF"):
        decode(data)


def test_a_codec_from_the_future_is_refused_by_name():
    data = encode(quantized(), Codec("neural", lambda arrays, groups: b"codes"))
    with pytest.raises(DataError, match=r"codec is known(.|\n)*neural(.|\n)*ans, brotli, lzma, zstd, zpaq"):
        decode(data)


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    for path in (tmp_path / "gone.bin", tmp_path):
        with pytest.raises(DataError, match="can be read"):
            read_artifact(path)


def test_an_error_names_the_file(tmp_path):
    (tmp_path / "mine.bin").write_bytes(WHOLE["lzma"][:-1])
    with pytest.raises(DataError, match=r"mine\.bin"):
        read_artifact(tmp_path / "mine.bin")
    (tmp_path / "mine.bin").write_bytes(WHOLE["lzma"])
    assert_equal(read_artifact(tmp_path / "mine.bin"), quantized())
