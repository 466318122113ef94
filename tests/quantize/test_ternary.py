"""The ternary quantizer: what goes in groups, what on a grid, what stays, and what it is expected to cost."""

import pytest
import torch

from pgolf.estimate import estimate
from pgolf.formats.blob import decode, encode
from pgolf.formats.grouped import ternary
from pgolf.formats.quantized import GroupedMatrix, QuantizedModel, same
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.pack.stage import packed_bytes
from pgolf.quantize.ternary import Ternary
from pgolf.recipes import laptop_ternary
from tests.nets import VOCAB
from tests.quantize.grouped import GroupedContract


class TestTernary(GroupedContract):
    QUANTIZER, CODER, CODES, BITS = Ternary, staticmethod(ternary), {-1, 0, 1}, 1.58


@pytest.mark.parametrize("packer", [BrotliPacker(), BrotliPacker(transpose=True), LzmaPacker()])
def test_a_packed_model_comes_back_bit_for_bit_and_costs_digits(packer):
    """128 x 512 Gaussian weights: 13 107 bytes in base 3, 1024 of magnitudes."""
    w = torch.randn(128, 512, generator=torch.Generator().manual_seed(0)) * 0.02
    codes, alpha = ternary(w, 128)
    matrices = {"w": GroupedMatrix(codes.short(), alpha, 128)}
    model = QuantizedModel({"layers": 1}, VOCAB, matrices, {"w": "mlp"}, {"g": torch.ones(3).half()})
    packed = encode(model, packer.codec())
    assert same(model, decode(packed)) is None
    assert len(packed) == packed_bytes(model, packer)
    assert len(packed) < 13_107 + 1024 + 300


def test_the_recipes_predicted_bytes_leave_room_under_the_cap():
    config = laptop_ternary()
    assert estimate(config).predicted_artifact_bytes < 0.95 * config.rules.artifact_bytes
