"""The headwise gate: its rows are the last ones of the query projection."""

import math

import pytest
import torch

from pgolf.model.attention import Attention
from pgolf.model.headwise_gate import HeadwiseGate
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import network, small


class TestHeadwiseGate(TechniqueContract):
    def build(self):
        return HeadwiseGate().build(self.width, 4, 4)

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 4, 4), x, torch.cat([x, x[..., :4]], dim=-1)).flatten(2)


class TestHeadwiseGateInNetwork(InNetworkContract):
    def on(self):
        return small(attention=Attention(heads=4, kv_heads=2, gate=HeadwiseGate()))

    def off(self):
        return small()


def test_worked_example():
    module = HeadwiseGate().build(4, 2, 1)
    q = torch.tensor([[[9.0, 9.0, 0.0, math.log(3.0)]]])  # two query channels, two gates: 1/2 and 3/4
    got = module(torch.full((1, 1, 2, 1), 4.0), torch.zeros(1, 1, 4), q)
    assert got.flatten().tolist() == pytest.approx([2.0, 3.0])


def test_the_query_projection_has_a_row_more_for_every_head():
    built = network(small(attention=Attention(heads=4, kv_heads=2, gate=HeadwiseGate())))
    assert built.blocks[0].attention.q.weight.shape == (16 + 4, 16)
