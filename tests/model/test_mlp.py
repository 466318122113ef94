"""The squared leaky ReLU, by hand."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.model.gpt import GptConfig
from pgolf.model.mlp import Mlp
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import network, small, stream


class TestMlp(TechniqueContract):
    def build(self):
        return Mlp(mult=1.5, negative_slope=0.5).build(self.width)


class TestWidthsByBlock(InNetworkContract):
    def on(self):
        return small(mlp=Mlp(layer_mults=(1.0, 3.0, 1.5)))

    def off(self):
        return small()


class TestSlopesByBlock(InNetworkContract):
    def on(self):
        return small(mlp=Mlp(layer_slopes=(-0.25, 0.5, 0.9)))

    def off(self):
        return small()


@pytest.mark.parametrize(("slope", "expected"), [(0.0, [9.0, 0.0]), (0.5, [9.0, 1.0]), (1.0, [9.0, 4.0])])
def test_worked_example(slope, expected):
    """With both matrices the identity, 3 becomes 9 and -2 becomes (slope * -2)^2."""
    module = Mlp(mult=1.0, negative_slope=slope).build(2)
    with torch.no_grad():
        module.up.weight.copy_(torch.eye(2))
        module.down.weight.copy_(torch.eye(2))
        assert module(torch.tensor([[[3.0, -2.0]]])).tolist() == [[expected]]


def test_a_hidden_width_that_is_no_whole_number_is_refused():
    assert Mlp(mult=2.25).hidden(16) == 36
    with pytest.raises(ValidationError, match="whole number"):
        GptConfig(width=16 * 9, mlp=Mlp(mult=2.3))


def test_widths_and_slopes_go_to_their_blocks():
    config = small(mlp=Mlp(mult=7.0, layer_mults=(1.0, 2.5, 3.0), layer_slopes=(-0.014, 0.131, 0.468)))
    blocks = network(config).blocks
    assert [b.mlp.up.weight.shape for b in blocks] == [(16, 16), (40, 16), (48, 16)]
    assert [b.mlp.down.weight.shape for b in blocks] == [(16, 16), (16, 40), (16, 48)]
    assert [b.mlp.negative_slope for b in blocks] == [-0.014, 0.131, 0.468]


def test_equal_numbers_for_all_are_the_number():
    tokens = stream(0, 9, 1)
    one = network(small(mlp=Mlp(mult=1.5, negative_slope=0.5)))
    each = network(small(mlp=Mlp(layer_mults=(1.5,) * 3, layer_slopes=(0.5,) * 3)))
    with torch.no_grad():
        assert torch.equal(one(tokens, tokens == 1), each(tokens, tokens == 1))


def test_a_negative_slope_below_zero_is_its_own_square_again():
    """phi(-2) = (slope * -2)^2 whatever the slope's sign: learned profiles crossed zero."""
    module = Mlp(mult=1.0, layer_slopes=(-0.5,)).build(1)
    with torch.no_grad():
        module.up.weight.fill_(1.0)
        module.down.weight.fill_(1.0)
    x = torch.tensor([[[-2.0]]], requires_grad=True)
    module(x).backward()
    assert module(x).item() == pytest.approx(1.0)
    assert x.grad.item() == pytest.approx(2 * 0.25 * -2)


@pytest.mark.parametrize(("change", "message"), [
    ({"layer_mults": (1.0, 2.0)}, r"mlp\.layer_mults has one entry for every stored block"),
    ({"layer_slopes": (0.5,) * 4}, r"mlp\.layer_slopes has one entry for every stored block"),
    ({"layer_mults": (1.0, 2.0, 2.03)}, "whole number"),
    ({"layer_slopes": (0.5, 0.5, 1.5)}, "less than or equal to 1"),
])  # fmt: skip
def test_lists_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        small(layers=3, mlp=change)
