"""ZPAQ through lrzip: lossless where the program is, refused with a way out where it is not."""

import shutil

import pytest
from pydantic import ValidationError

from pgolf.errors import DataError
from pgolf.formats.blob import decode, encode
from pgolf.pack.zpaq_packer import ZpaqPacker
from tests.formats.samples import assert_equal, quantized

needs_lrzip = pytest.mark.skipif(not shutil.which("lrzip"), reason="lrzip is not installed")


@needs_lrzip
@pytest.mark.parametrize("transpose", [False, True])
def test_a_model_comes_back_bit_for_bit_and_packs_the_same_twice(transpose):
    data = encode(quantized(spread=300), ZpaqPacker(transpose=transpose).codec())
    assert_equal(decode(data), quantized(spread=300))
    assert encode(quantized(spread=300), ZpaqPacker(transpose=transpose).codec()) == data


@needs_lrzip
def test_arrays_without_values_come_back():
    """The smallest network there is has groups of nothing."""
    model = quantized(rows=1, cols=1)
    assert_equal(decode(encode(model, ZpaqPacker().codec())), model)


def test_without_lrzip_packing_and_reading_say_what_to_install(monkeypatch, tmp_path):
    packed = None
    if shutil.which("lrzip"):
        packed = encode(quantized(), ZpaqPacker().codec())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"lrzip(.|\n)*not found on the path(.|\n)*apt-get install lrzip"):
        encode(quantized(), ZpaqPacker().codec())
    if packed is not None:
        with pytest.raises(DataError, match="lrzip"):
            decode(packed)


@pytest.mark.parametrize("change", [{"level": 9}, {"transpose": "sideways"}])
def test_an_impossible_or_misspelt_setting_is_refused(change):
    with pytest.raises(ValidationError):
        ZpaqPacker(**change)
