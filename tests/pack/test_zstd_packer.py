"""Zstandard: lossless at every level, and named so that readers know it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.formats.blob import decode, encode
from pgolf.formats.byte_codec import decode_bytes
from pgolf.pack.zstd_packer import ZstdPacker
from tests.formats.samples import assert_equal, quantized


@settings(max_examples=15)
@given(values=st.lists(st.integers(-128, 127), max_size=300), level=st.integers(1, 22))
def test_any_codes_come_back_at_any_level(values, level):
    codec, codes = ZstdPacker(level=level).codec(), np.array([values], np.int16)
    (again,) = decode_bytes(codec.name, codec.encode([codes], ["mlp"]), [codes.shape], ["mlp"])
    assert again.dtype == np.int16
    assert again.tolist() == codes.tolist()


@pytest.mark.parametrize("transpose", [False, True])
def test_a_model_comes_back_bit_for_bit(transpose):
    assert_equal(decode(encode(quantized(), ZstdPacker(transpose=transpose).codec())), quantized())


def test_a_harder_level_costs_fewer_bytes():
    codes = np.random.default_rng(0).normal(0, 0.5, (256, 64)).round().astype(np.int16)
    sizes = [len(ZstdPacker(level=level).codec().encode([codes], ["mlp"])) for level in (1, 22)]
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize("change", [{"level": 0}, {"level": 23}, {"quality": 3}])
def test_an_impossible_or_misspelt_setting_is_refused(change):
    with pytest.raises(ValidationError):
        ZstdPacker(**change)
