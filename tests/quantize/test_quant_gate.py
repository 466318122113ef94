"""Quantized gates: a grid as wide as the row, half the bytes of float16."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import QuantizedModel
from pgolf.model.attention import Attention
from pgolf.model.dense_gate import DenseGate
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.stage import quantize_stage
from pgolf.runtime import Runtime
from tests.nets import VOCAB, network, small


def test_worked_example():
    """Three bits, qmax 3: the row's largest weight 6 makes a step of 2."""
    got = QuantGate(bits=3).quantize(torch.tensor([[6.0, -6.0, 2.9, 3.1, 0.0]]))
    assert got.step.item() == 2.0
    assert got.q.tolist() == [[3, -3, 1, 2, 0]]


@given(seed=st.integers(0, 2**31 - 1), bits=st.integers(2, 8), scale=st.sampled_from([1e-3, 1.0, 100.0]))
def test_no_weight_moves_by_more_than_half_a_step(seed, bits, scale):
    w = torch.randn(4, 12, generator=torch.Generator().manual_seed(seed)) * scale
    got = QuantGate(bits=bits).quantize(w)
    moved = (got.dequantize().double() - w.double()).abs() / got.step.double()
    assert (moved <= 0.5 + got.q.abs() * 2**-23).all(), "half a step, and the product's own rounding"


def test_a_zero_row_decodes_to_zero():
    assert not QuantGate().quantize(torch.zeros(2, 5)).dequantize().any()


@pytest.mark.parametrize("gate", [None, QuantGate()])
def test_the_stage_codes_gates_only_where_asked(tmp_path, gate):
    config = small(attention=Attention(heads=4, kv_heads=2, gate=DenseGate()))
    built = network(config)
    (tmp_path / "in").mkdir(), (tmp_path / "out").mkdir()
    Checkpoint(config.plain(), VOCAB, dict(built.named_parameters())).write(tmp_path / "in")
    quantize_stage(lambda _: 0).run(
        tmp_path / "in", out=tmp_path / "out", runtime=Runtime(), quantize=Rtn(grids=RoleGrids(gate=gate))
    )
    made = QuantizedModel.read(tmp_path / "out")
    name = "blocks.0.attention.gate.w"
    assert (name in made.matrices) == (gate is not None)
    exact = built.state_dict()[name]
    assert torch.allclose(made.weights()[name], exact, atol=float(exact.abs().max()) / 127)
