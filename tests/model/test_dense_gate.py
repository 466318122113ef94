"""The dense gate: a row of the whole width for every head."""

import math

import pytest
import torch

from pgolf.model.attention import Attention
from pgolf.model.dense_gate import DenseGate
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import small


class TestDenseGate(TechniqueContract):
    def build(self):
        return DenseGate().build(self.width, 4, 4)

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 4, 4), x, torch.cat([x, x[..., :4]], dim=-1)).flatten(2)


class TestDenseGateInNetwork(InNetworkContract):
    def on(self):
        return small(attention=Attention(heads=4, kv_heads=2, gate=DenseGate()))

    def off(self):
        return small()


class TestDenseGateWithBias(InNetworkContract):
    def on(self):
        return small(attention=Attention(heads=4, kv_heads=2, gate=DenseGate(bias=4.0)))

    def off(self):
        return small(attention=Attention(heads=4, kv_heads=2, gate=DenseGate()))


def test_worked_example():
    module = DenseGate(bias=0.25).build(3, 2, 1)
    with torch.no_grad():
        module.w.copy_(torch.tensor([[1.0, 0.0, 2.0], [0.0, -1.0, 0.0]]))
        module.b.fill_(0.25)
        got = module(torch.ones(1, 1, 2, 1), torch.tensor([[[1.0, 2.0, 3.0]]]), torch.zeros(1, 1, 2))
    assert got.flatten().tolist() == pytest.approx([1 / (1 + math.exp(-7.25)), 1 / (1 + math.exp(1.75))])


def test_it_begins_near_a_half_or_where_its_bias_says():
    o, y = torch.ones(1, 3, 4, 2), torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(0))
    for bias, share in ((None, 0.5), (4.0, 1 / (1 + math.exp(-4.0)))):
        module = DenseGate(bias=bias).build(16, 4, 2)
        module.reset(torch.Generator().manual_seed(1))
        assert torch.allclose(module(o, y, o.flatten(2)), share * o, atol=0.02)
        assert (module.b is None) == (bias is None)
