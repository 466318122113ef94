"""What a block reads, and how loudly its branches write."""

import pytest
import torch

from pgolf.model.residual import Residual
from tests.conformance.technique import TechniqueContract


class TestResidual(TechniqueContract):
    def build(self):
        return Residual().build(self.width)

    def apply(self, module, x, starts):
        u = module.read(x, x.sin())
        return module.scale_mlp(u + module.scale_attention(x.cos()))


def test_worked_example():
    module = Residual().build(2)
    with torch.no_grad():
        module.mix.copy_(torch.tensor([[2.0, 3.0], [10.0, 100.0]]))
        module.attn_scale.copy_(torch.tensor([5.0, 6.0]))
        module.mlp_scale.copy_(torch.tensor([7.0, 8.0]))
        one = torch.ones(1, 2)
        assert module.read(one, 2 * one).tolist() == [[22.0, 203.0]]
        assert module.scale_attention(2 * one).tolist() == [[10.0, 12.0]]
        assert module.scale_mlp(2 * one).tolist() == [[14.0, 16.0]]


@pytest.mark.parametrize("section", [Residual(), Residual(mix=False), Residual(scales=False)])
def test_a_block_begins_as_a_plain_one(section):
    module = section.build(4)
    module.reset(torch.Generator())
    x, x0, a = torch.randn(3, 1, 4)
    assert torch.equal(module.read(x, x0), x)
    assert torch.equal(module.scale_attention(a), a)
    assert torch.equal(module.scale_mlp(a), a)


def test_what_is_off_has_no_parameters():
    names = {
        section: sorted(name for name, _ in section.build(4).named_parameters())
        for section in (Residual(), Residual(mix=False), Residual(scales=False))
    }
    assert list(names.values()) == [["attn_scale", "mix", "mlp_scale"], ["attn_scale", "mlp_scale"], ["mix"]]
