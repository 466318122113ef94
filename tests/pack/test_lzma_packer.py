"""LZMA: lossless at every preset, and named so that readers know it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.formats.blob import decode, encode
from pgolf.formats.byte_codec import decode_bytes
from pgolf.pack.lzma_packer import LzmaPacker
from tests.formats.samples import assert_equal, quantized


@settings(max_examples=15)
@given(values=st.lists(st.integers(-128, 127), max_size=300), preset=st.integers(0, 6))
def test_any_codes_come_back_at_any_preset(values, preset):
    codec, codes = LzmaPacker(preset=preset).codec(), np.array([values], np.int16)
    (again,) = decode_bytes(codec.name, codec.encode([codes], ["mlp"]), [codes.shape], ["mlp"])
    assert again.dtype == np.int16
    assert again.tolist() == codes.tolist()


@pytest.mark.parametrize("transpose", [False, True])
def test_a_model_comes_back_bit_for_bit(transpose):
    packer = LzmaPacker(transpose=transpose)
    assert_equal(decode(encode(quantized(), packer.codec())), quantized())


@pytest.mark.parametrize("change", [{"preset": 10}, {"preset": -1}, {"quality": 3}])
def test_an_impossible_or_misspelt_setting_is_refused(change):
    with pytest.raises(ValidationError):
        LzmaPacker(**change)
