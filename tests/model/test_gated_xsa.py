"""Gated XSA: it begins as plain attention or as XSA, and moves between them."""

import torch

from pgolf.model.attention import Attention
from pgolf.model.gated_xsa import GatedXsa
from pgolf.model.xsa import XsaModule
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import small


class TestGatedXsa(TechniqueContract):
    def build(self):
        return GatedXsa().build(4, 0, 1)

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 4, 4), x.sin().view(1, -1, 4, 4)[:, :, :2]).flatten(2)


class TestGatedXsaInNetwork(InNetworkContract):
    def on(self):
        return small(attention=Attention(heads=4, kv_heads=2, xsa=GatedXsa()))

    def off(self):
        return small()


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, 4, 5, generator=generator), torch.randn(1, 3, 2, 5, generator=generator)


def test_it_begins_as_attention_or_as_xsa():
    o, v = drawn()
    for begin_excluded, expected in ((False, o), (True, XsaModule()(o, v))):
        module = GatedXsa(begin_excluded=begin_excluded).build(4, 0, 1)
        module.reset(torch.Generator())
        assert torch.allclose(module(o, v), expected)


def test_each_head_has_its_own_share():
    """tanh(a) of the exclusion: half for one head, the opposite for another."""
    o, v = drawn()
    module = GatedXsa().build(4, 0, 1)
    with torch.no_grad():
        module.a.copy_(torch.atanh(torch.tensor([0.5, -0.5, 0.0, 0.9])))
        removed = o - XsaModule()(o, v)
        for head, share in enumerate((0.5, -0.5, 0.0, 0.9)):
            assert torch.allclose(module(o, v)[:, :, head], (o - share * removed)[:, :, head], atol=1e-6)
