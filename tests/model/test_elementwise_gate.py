"""The elementwise gate: every channel its own."""

import math

import pytest
import torch

from pgolf.model.attention import Attention
from pgolf.model.elementwise_gate import ElementwiseGate
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import small


class TestElementwiseGate(TechniqueContract):
    def build(self):
        return ElementwiseGate().build(self.width, 4, 4)

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 4, 4), x, torch.cat([x, x[..., :4]], dim=-1)).flatten(2)


class TestElementwiseGateInNetwork(InNetworkContract):
    def on(self):
        return small(attention=Attention(heads=4, kv_heads=2, gate=ElementwiseGate()))

    def off(self):
        return small()


def test_worked_example():
    module = ElementwiseGate().build(2, 1, 2)
    with torch.no_grad():
        module.w.weight.copy_(torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]]))
        got = module(torch.full((1, 1, 1, 2), 4.0), torch.ones(1, 1, 2), torch.zeros(1, 1, 2))
    assert got.flatten().tolist() == pytest.approx([3.0, 2.0])


def test_it_begins_half_open():
    module = ElementwiseGate().build(16, 4, 4)
    module.w.reset(torch.Generator())
    o = torch.randn(1, 3, 4, 4)
    assert torch.equal(module(o, torch.randn(1, 3, 16), o.flatten(2)), 0.5 * o)
