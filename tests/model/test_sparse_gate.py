"""The sparse gate: half open at the start, from the first channels alone."""

import math

import pytest
import torch

from pgolf.model.attention import Attention
from pgolf.model.sparse_gate import SparseGate
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import small


class TestSparseGate(TechniqueContract):
    def build(self):
        return SparseGate().build(self.width, 4, 4)

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 4, 4), x, torch.cat([x, x[..., :4]], dim=-1)).flatten(2)


class TestSparseGateInNetwork(InNetworkContract):
    def on(self):
        return small(attention=Attention(heads=4, kv_heads=2, gate=SparseGate()))

    def off(self):
        return small()


def test_worked_example():
    """One head reads two of four channels: sigmoid(0.5 (2 - 1)) of the output."""
    module = SparseGate(window=2, scale=0.5).build(4, 1, 3)
    with torch.no_grad():
        module.w.copy_(torch.tensor([[2.0, -1.0]]))
        got = module(torch.ones(1, 1, 1, 3), torch.tensor([[[1.0, 1.0, 9.0, 9.0]]]), torch.zeros(1, 1, 3))
    assert got.flatten().tolist() == pytest.approx([1 / (1 + math.exp(-0.5))] * 3)


def test_it_begins_half_open():
    module = SparseGate().build(16, 4, 2)
    module.reset(torch.Generator())
    o = torch.randn(1, 3, 4, 2)
    assert torch.equal(module(o, torch.randn(1, 3, 16), o.flatten(2)), 0.5 * o)
    assert module.w.shape == (4, 12)
