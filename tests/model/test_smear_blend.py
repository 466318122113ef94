"""The old smear: a blend per channel, by hand, and where it must not reach."""

import math

import pytest
import torch

from pgolf.model.smear_blend import SmearBlend
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import small


class TestSmearBlend(TechniqueContract):
    def build(self):
        return SmearBlend().build(self.width)

    def apply(self, module, x, starts):
        return module(x, starts)


class TestSmearBlendInNetwork(InNetworkContract):
    def on(self):
        return small(smear=SmearBlend())

    def off(self):
        return small()


class TestSmearBlendBeforeTheNorm(InNetworkContract):
    def on(self):
        return small(smear=SmearBlend(before_norm=True))

    def off(self):
        return small(smear=SmearBlend())


def test_worked_example():
    """g = 1/4 and 1/2 on two channels; a document's first position keeps 1 - g of itself."""
    module = SmearBlend().build(2)
    x = torch.tensor([[[4.0, 8.0], [40.0, 80.0], [400.0, 800.0]]])
    with torch.no_grad():
        module.gamma.copy_(torch.tensor([-math.log(3.0), 0.0]))
        got = module(x, torch.tensor([[True, False, True]]))[0]
    assert got.flatten().tolist() == pytest.approx([3.0, 4.0, 31.0, 44.0, 300.0, 400.0])


@pytest.mark.parametrize(("initial", "share"), [(0.0, 0.5), (-3.0, 1 / (1 + math.exp(3.0)))])
def test_it_begins_with_that_share_of_the_token_before(initial, share):
    module = SmearBlend(initial=initial).build(3)
    module.reset(torch.Generator())
    x = torch.ones(1, 2, 3)
    x[:, 1] = 0.0
    assert torch.allclose(module(x, torch.tensor([[True, False]]))[0, 1], torch.full((3,), share))
