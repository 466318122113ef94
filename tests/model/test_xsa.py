"""XSA: what is left has nothing of the own value's direction."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.model.attention import Attention
from pgolf.model.xsa import Xsa, XsaModule, on_layer
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import network, small

SEEDS = st.integers(0, 2**31 - 1)


class TestXsa(TechniqueContract):
    def build(self):
        return XsaModule()

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 4, 4), x.sin().view(1, -1, 4, 4)[:, :, :2]).flatten(2)


class TestXsaInNetwork(InNetworkContract):
    def on(self):
        return small(attention=Attention(heads=4, kv_heads=2, xsa=Xsa(last_layers=2)))

    def off(self):
        return small()


def test_worked_example():
    """v points along (3, 4) / 5; o = (1, 0) has 3/5 of it, and keeps (1, 0) - 3/5 (3/5, 4/5)."""
    o, v = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[6.0, 8.0]]]])
    assert XsaModule()(o, v).flatten().tolist() == pytest.approx([0.64, -0.48])


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, groups=st.sampled_from([(1, 1), (4, 1), (4, 2), (6, 3)]), dim=st.integers(2, 8))
def test_it_is_the_repeated_form_and_leaves_nothing_along_the_value(seed, groups, dim):
    """The obvious twin repeats each value head for its group, in float64."""
    heads, kv_heads = groups
    generator = torch.Generator().manual_seed(seed)
    o = torch.randn(2, 5, heads, dim, generator=generator)
    v = torch.randn(2, 5, kv_heads, dim, generator=generator)
    got = XsaModule()(o, v).double()
    repeated = v.double().repeat_interleave(heads // kv_heads, dim=2)
    unit = repeated / repeated.norm(dim=-1, keepdim=True)
    exact = o.double() - (o.double() * unit).sum(-1, keepdim=True) * unit
    assert torch.allclose(got, exact, atol=1e-5)
    assert (got * unit).sum(-1).abs().max() < 1e-5


def test_a_zero_value_takes_nothing():
    o = torch.ones(1, 1, 2, 3)
    assert torch.equal(XsaModule()(o, torch.zeros(1, 1, 1, 3)), o)


def test_it_is_on_the_last_layers():
    assert [on_layer(2, layer, 5) for layer in range(5)] == [False, False, False, True, True]
    assert all(on_layer(None, layer, 5) for layer in range(5))
    built = network(small(layers=4, attention=Attention(heads=4, kv_heads=2, xsa=Xsa(last_layers=3))))
    assert [b.attention.xsa is not None for b in built.blocks] == [False, True, True, True]
