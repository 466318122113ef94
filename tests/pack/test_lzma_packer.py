"""LZMA: lossless at every preset, and named so that readers know it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.formats.blob import DECOMPRESS, decode, encode
from pgolf.pack.lzma_packer import LzmaPacker
from tests.formats.samples import assert_equal, quantized


@settings(max_examples=15)
@given(data=st.binary(max_size=300), preset=st.integers(0, 6))
def test_any_bytes_come_back_at_any_preset(data, preset):
    codec = LzmaPacker(preset=preset).codec()
    assert DECOMPRESS[codec.name](codec.compress(data)) == data


@pytest.mark.parametrize("transpose", [False, True])
def test_a_model_comes_back_bit_for_bit(transpose):
    packer = LzmaPacker(transpose=transpose)
    assert_equal(decode(encode(quantized(), packer.codec(), packer.transpose)), quantized())


@pytest.mark.parametrize("change", [{"preset": 10}, {"preset": -1}, {"quality": 3}])
def test_an_impossible_or_misspelt_setting_is_refused(change):
    with pytest.raises(ValidationError):
        LzmaPacker(**change)
