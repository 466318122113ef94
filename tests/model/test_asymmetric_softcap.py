"""Asymmetric softcap: two sides, beginning as one; and what a fused loss may not assume."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.model.asymmetric_softcap import AsymmetricSoftcap
from pgolf.model.softcap import Softcap, softcap
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import VOCAB, network, small, stream


class TestAsymmetricSoftcap(TechniqueContract):
    form = "cap"

    def build(self):
        return AsymmetricSoftcap(form=self.form).build(5.0)


class TestGain(TestAsymmetricSoftcap):
    form = "gain"


class TestInNetwork(InNetworkContract):
    form = "cap"

    def on(self):
        return small(softcap=Softcap(cap=8.0, sides=AsymmetricSoftcap(form=self.form)))

    def off(self):
        return small(softcap=Softcap(cap=8.0))


class TestGainInNetwork(TestInNetwork):
    form = "gain"


@pytest.mark.parametrize(("form", "expected"), [
    ("cap", [2 * math.tanh(1.0), 0.0, -4 * math.tanh(0.5)]),
    ("gain", [2 * 10 * math.tanh(0.2), 0.0, -4 * 10 * math.tanh(0.2)]),
])  # fmt: skip
def test_worked_example(form, expected):
    """Logits 2, 0 and -2; 2 for the positive side, 4 for the negative one; a symmetric cap of 10."""
    module = AsymmetricSoftcap(form=form).build(10.0)
    with torch.no_grad():
        module.positive.fill_(2.0)
        module.negative.fill_(4.0)
        assert module(torch.tensor([[2.0, 0.0, -2.0]]))[0].tolist() == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(form=st.sampled_from(["cap", "gain"]), cap=st.floats(1, 60), seed=st.integers(0, 2**31 - 1))
def test_it_begins_as_the_symmetric_one(form, cap, seed):
    module = AsymmetricSoftcap(form=form).build(cap)
    module.reset(torch.Generator())
    z = 50 * torch.randn(3, 7, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(module(z), softcap(z, cap), rtol=1e-6)


def test_the_network_caps_in_one_place():
    built, tokens = network(small(softcap=Softcap(cap=8.0, sides=AsymmetricSoftcap()))), stream(0, 8, 1)
    with torch.no_grad():
        raw = built.raw_logits(built.hidden(tokens, tokens == 1)).float()
        assert torch.equal(built(tokens, tokens == 1), built.softcapped(raw))
        assert torch.equal(built.softcapped(raw), built.sides(raw))


def test_there_is_no_constant_cap_to_ask_for():
    """A loss that folds in the cap itself would otherwise train another network than is deployed."""
    assert network(small(softcap=Softcap(cap=8.0))).cap == 8.0
    assert network(small(softcap=None)).cap is None
    with pytest.raises(AssertionError, match="no constant"):
        _ = small(softcap=Softcap(sides=AsymmetricSoftcap())).build(VOCAB).cap
