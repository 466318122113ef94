"""Brotli: lossless, near the codes' own entropy, and transposed where that pays."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.formats.blob import decode, encode
from pgolf.formats.byte_codec import decode_bytes
from pgolf.formats.quantized import QuantizedMatrix, QuantizedModel
from pgolf.pack.brotli_packer import BrotliPacker
from tests.formats.samples import assert_equal, quantized


def entropy_bytes(codes: torch.Tensor) -> float:
    """What an ideal coder that knows the histogram would spend."""
    counts = np.unique(codes.numpy(), return_counts=True)[1]
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum() * codes.numel() / 8)


def single(codes: torch.Tensor) -> QuantizedModel:
    row = torch.full((codes.shape[0],), -16, dtype=torch.int16)
    return QuantizedModel({}, 1, {"w": QuantizedMatrix(codes, row)}, {"w": "mlp"}, {})


def gaussian(spread: float, rows: int = 256, cols: int = 256) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return (torch.randn(rows, cols, generator=g) * spread).round().clamp(-127, 127).to(torch.int16)


@given(
    values=st.lists(st.integers(-128, 127), max_size=300),
    quality=st.integers(0, 11),
    window=st.integers(10, 24),
)
def test_any_codes_come_back_at_any_setting(values, quality, window):
    codec, codes = BrotliPacker(quality=quality, window_bits=window).codec(), np.array([values], np.int16)
    (again,) = decode_bytes(codec.name, codec.encode([codes], ["mlp"]), [codes.shape], ["mlp"])
    assert again.dtype == np.int16
    assert again.tolist() == codes.tolist()


@pytest.mark.parametrize("transpose", [False, True])
def test_a_model_comes_back_bit_for_bit(transpose):
    packer = BrotliPacker(transpose=transpose)
    assert_equal(decode(encode(quantized(), packer.codec())), quantized())


@pytest.mark.parametrize("spread", [1.2, 2.5, 6.0, 20.0])
def test_a_gaussian_matrix_costs_its_entropy_and_three_percent(spread):
    """The rest is the header and the steps, which one value repeated hardly costs."""
    codes = gaussian(spread)
    size = len(encode(single(codes), BrotliPacker().codec()))
    assert entropy_bytes(codes) * 0.999 < size < entropy_bytes(codes) * 1.03 + 250


def test_codes_column_by_column_are_another_layout_of_the_same_model():
    codes = gaussian(4.0, 64, 32)
    rows, columns = (encode(single(codes), BrotliPacker(transpose=t).codec()) for t in (False, True))
    assert rows != columns
    assert torch.equal(decode(columns).matrices["w"].q, codes)
    assert decode(columns).matrices["w"].q.is_contiguous()


def test_columns_of_uneven_spread_are_cheaper_column_by_column():
    spread = torch.tensor([0.3, 40.0]).repeat_interleave(128)
    g = torch.Generator().manual_seed(1)
    codes = (torch.randn(256, 256, generator=g) * spread).round().clamp(-127, 127).to(torch.int16)
    rows, columns = (len(encode(single(codes), BrotliPacker(transpose=t).codec())) for t in (False, True))
    assert columns < rows


def test_a_wider_window_sees_repeats_from_farther_back():
    noise = gaussian(40.0, 64, 1024).numpy()
    twice = [np.concatenate([noise, noise])]
    sizes = [len(BrotliPacker(window_bits=bits).codec().encode(twice, ["mlp"])) for bits in (10, 24)]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_harder_quality_costs_fewer_bytes():
    codes = single(gaussian(3.0))
    sizes = [len(encode(codes, BrotliPacker(quality=q).codec())) for q in (1, 5, 11)]
    assert sizes[2] < sizes[0]


@pytest.mark.parametrize("change", [{"quality": 12}, {"window_bits": 9}, {"window_bits": 25}, {"qualty": 3}])
def test_an_impossible_or_misspelt_setting_is_refused(change):
    with pytest.raises(ValidationError):
        BrotliPacker(**change)
