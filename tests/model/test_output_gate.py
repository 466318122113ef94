"""The output gate: open at the start, from the input or from the query projection."""

import math

import pytest
import torch

from pgolf.model.attention import Attention
from pgolf.model.output_gate import OutputGate
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import small


class TestOutputGate(TechniqueContract):
    def build(self):
        return OutputGate().build(self.width, 4, 4)

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 4, 4), x, torch.cat([x, x[..., :4]], dim=-1)).flatten(2)


class TestOutputGateInNetwork(InNetworkContract):
    def on(self):
        return small(attention=Attention(heads=4, kv_heads=2, gate=OutputGate()))

    def off(self):
        return small()


class TestOutputGateOfTheQuery(InNetworkContract):
    def on(self):
        return small(attention=Attention(heads=4, kv_heads=2, gate=OutputGate(source="query")))

    def off(self):
        return small(attention=Attention(heads=4, kv_heads=2, gate=OutputGate()))


@pytest.mark.parametrize("source", ["input", "query"])
def test_worked_example(source):
    module = OutputGate(window=2, source=source).build(4, 1, 1)
    read, other = torch.tensor([[[1.0, 1.0, 9.0, 9.0]]]), torch.full((1, 1, 4), 7.0)
    with torch.no_grad():
        module.w.copy_(torch.tensor([[2.0, -1.0]]))
        y, q = (read, other) if source == "input" else (other, read)
        got = module(torch.ones(1, 1, 1, 1), y, q)
    assert got.item() == pytest.approx(2 / (1 + math.exp(-1.0)))


def test_it_begins_as_no_change():
    module = OutputGate().build(16, 4, 2)
    module.reset(torch.Generator())
    o = torch.randn(1, 3, 4, 2)
    assert torch.equal(module(o, torch.randn(1, 3, 16), o.flatten(2)), o)
