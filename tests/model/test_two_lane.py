"""The two lanes: against their equations, and where they begin and end."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from pgolf.data.loader import document_starts
from pgolf.kernels.attention import prepare
from pgolf.model.reads import Reads
from pgolf.model.skip_gate import SkipGate
from pgolf.model.two_lane import TwoLane
from pgolf.model.u_net import UNet
from tests.conformance.in_network import InNetworkContract
from tests.nets import network, small, stream


class TestTwoLane(InNetworkContract):
    def on(self):
        return small(layers=5, parallel=TwoLane(from_layer=3))

    def off(self):
        return small(layers=5)


class TestTwoLaneLearned(InNetworkContract):
    def on(self):
        return small(layers=5, parallel=TwoLane(from_layer=3, merge="learned"))

    def off(self):
        return small(layers=5, parallel=TwoLane(from_layer=3))


def test_a_step_is_its_equations():
    """Both outputs from the lanes as they were; sources and targets in the published order."""
    built = network(small(layers=4, parallel=TwoLane(from_layer=2)))
    lane0, lane1 = torch.randn(2, 1, 6, 16, generator=torch.Generator().manual_seed(0))
    reads = Reads(lane0.cos(), prepare(torch.tensor([[True, False, False, True, False, False]])))
    block, lanes = built.blocks[2], built.two_lane
    rho, p = lanes.rho[2].tolist(), lanes.p[2].tolist()
    with torch.no_grad():
        got0, got1 = lanes((lane0, lane1), 2, block, reads)
        a = block.attend(block.residual.read(lane0, reads.x0), reads)
        b = block.transform(lane1)
        assert torch.allclose(got0, rho[0] * lane0 + p[0][0] * a + p[1][0] * b, atol=1e-5)
        assert torch.allclose(got1, rho[1] * lane1 + p[0][1] * a + p[1][1] * b, atol=1e-5)


MERGES = [("mean", 2.0), ("attention", 1.0), ("mlp", 3.0), ("learned", 2.0)]


@pytest.mark.parametrize(("merge", "expected"), MERGES)
def test_the_lanes_are_merged_as_named(merge, expected):
    module = TwoLane(merge=merge).build(3)
    module.reset(torch.Generator())
    assert module.merge((torch.ones(1, 1, 2), torch.full((1, 1, 2), 3.0))).unique().tolist() == [expected]
    assert ("blend" in dict(module.named_parameters())) == (merge == "learned")


def test_it_begins_with_its_published_numbers():
    module = TwoLane(cross_route=0.25).build(2)
    module.reset(torch.Generator())
    assert module.rho.flatten().tolist() == pytest.approx([1.1] * 4)
    assert module.p.tolist() == [[[1.0, 0.25], [0.25, 1.0]]] * 2


def test_skips_in_the_lanes_are_alive():
    """A historic bug added the skips to a variable nobody read: every skip must have a gradient."""
    built = network(small(layers=6, u_net=UNet(gate=SkipGate()), parallel=TwoLane(from_layer=3)))
    tokens = stream(0, 12, 2)
    F.cross_entropy(built(tokens, document_starts(tokens))[0, :-1], tokens[0, 1:]).backward()
    assert built.u_net.w.grad.abs().sum(dim=1).gt(0).all()
    assert built.u_net.gate.gate.grad.abs().sum(dim=1).gt(0).all()


def test_skips_go_into_the_attention_lane_only():
    """At the first lane block the other lane is the stream, and so is what the last encoder block pushed."""
    built = network(small(layers=4, parallel=TwoLane(from_layer=2)))
    tokens, seen = stream(0, 8, 1), []
    built.two_lane.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        built(tokens, document_starts(tokens))
        lane0, lane1 = seen[0]
        assert torch.allclose(lane0 - lane1, built.u_net.w[0] * lane1, atol=1e-5)


def test_it_begins_in_the_decoder():
    with pytest.raises(ValidationError, match="a layer of the decoder"):
        small(layers=6, parallel=TwoLane(from_layer=2))
    assert small(layers=6, u_net=None, parallel=TwoLane(from_layer=2))
