"""U-Net skips: last in, first out, one gain a channel."""

import pytest
import torch

from pgolf.model.u_net import UNet
from tests.conformance.technique import TechniqueContract
from tests.nets import network, small


class TestUNet(TechniqueContract):
    def build(self):
        return UNet().build(4, self.width)

    def apply(self, module, x, starts):
        return module(x, 1, [x.sin()])


def test_worked_example():
    """Two encoders; decoder 0 takes the second's output, decoder 1 the first's, the third finds none."""
    module = UNet().build(5, 2)
    with torch.no_grad():
        module.w.copy_(torch.tensor([[1.0, 2.0], [10.0, 20.0]]))
        stack = [torch.full((1, 2), 3.0), torch.full((1, 2), 5.0)]
        x = torch.zeros(1, 2)
        assert module(x, 0, stack).tolist() == [[5.0, 10.0]]
        assert module(x, 1, stack).tolist() == [[30.0, 60.0]]
        assert torch.equal(module(x, 2, stack), x)


@pytest.mark.parametrize(("layers", "skips"), [(1, 0), (2, 1), (9, 4)])
def test_half_of_the_blocks_are_the_encoder(layers, skips):
    assert network(small(layers=layers)).u_net.w.shape[0] == skips
    assert "u_net.w" not in dict(network(small(layers=layers, u_net=None)).named_parameters())


def test_skips_begin_at_one():
    module = UNet().build(4, 3)
    module.reset(torch.Generator())
    assert torch.equal(module.w, torch.ones(2, 3))
