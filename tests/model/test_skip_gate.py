"""Gated skips: a blend that begins even."""

import torch

from pgolf.model.skip_gate import SkipGate
from pgolf.model.u_net import UNet
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import small


class TestSkipGate(TechniqueContract):
    def build(self):
        return SkipGate().build(2, self.width)

    def apply(self, module, x, starts):
        return module(x, x.sin(), 1)


class TestSkipGateInNetwork(InNetworkContract):
    def on(self):
        return small(layers=4, u_net=UNet(gate=SkipGate()))

    def off(self):
        return small(layers=4)


def test_worked_example():
    """Skip row 1 has w 10 and gates 1/4, 3/4: of a stream of 8 and a skip of 1."""
    module = UNet(gate=SkipGate()).build(4, 2)
    with torch.no_grad():
        module.w[1] = 10.0
        module.gate.gate[1] = torch.log(torch.tensor([1 / 3, 3.0]))
        got = module(torch.full((1, 2), 8.0), 1, [torch.ones(1, 2)])
    assert torch.allclose(got, torch.tensor([[0.25 * 8 + 0.75 * 10, 0.75 * 8 + 0.25 * 10]]))


def test_it_begins_as_an_even_blend():
    module = UNet(gate=SkipGate()).build(2, 3)
    for part in module.modules():
        part.reset(torch.Generator())
    x, skip = torch.randn(2, 1, 3)
    assert torch.allclose(module(x, 0, [skip]), (x + skip) / 2)
