"""The entropy coder as a packer: the artifact comes back, in fewer bytes than a general compressor takes."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.formats.blob import decode, encode
from pgolf.formats.quantized import QuantizedModel
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.brotli_packer import BrotliPacker
from tests.formats.samples import assert_equal, quantized, scaled


@pytest.mark.parametrize("spread", [0.4, 9.0, 9000.0])
def test_a_model_comes_back_bit_for_bit(spread):
    data = encode(quantized(spread=spread), AnsPacker().codec())
    assert_equal(decode(data), quantized(spread=spread))
    assert encode(quantized(spread=spread), AnsPacker().codec()) == data


@pytest.mark.parametrize("spread", [1.2, 6.0])
def test_a_gaussian_matrix_costs_less_than_in_brotli_and_nothing_less_than_its_entropy(spread):
    m = scaled(torch.Generator().manual_seed(0), 256, 128, spread)
    model = QuantizedModel({}, 1, {"w": m}, {"w": "mlp"}, {})
    share = m.q.unique(return_counts=True)[1] / m.q.numel()
    entropy = float(-(share * share.log2()).sum()) * m.q.numel() / 8
    ours, theirs = (len(encode(model, p.codec())) for p in (AnsPacker(), BrotliPacker()))
    assert entropy * 0.998 < ours < theirs


def test_it_has_no_settings():
    with pytest.raises(ValidationError):
        AnsPacker(level=3)
