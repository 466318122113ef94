"""The smear gate: by hand, from its equation, and where it must not reach."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.model.smear_gate import SmearGate
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import randomized, small


class TestSmearGate(TechniqueContract):
    def build(self):
        return SmearGate(window=4).build(self.width)

    def apply(self, module, x, starts):
        return module(x, starts)


class TestSmearGateInNetwork(InNetworkContract):
    def on(self):
        return small(smear=SmearGate(window=4))

    def off(self):
        return small()


def test_worked_example():
    """lam 2, w reads channel 0: row 1 takes 2 sigmoid(3) of row 0; row 2 begins a document."""
    module = SmearGate(window=1).build(2)
    x = torch.tensor([[[1.0, 10.0], [3.0, 20.0], [5.0, 30.0], [0.0, 40.0]]])
    with torch.no_grad():
        module.w.fill_(1.0)
        module.lam.fill_(2.0)
        got = module(x, torch.tensor([[True, False, True, False]]))[0, :, 1].tolist()
    assert got == pytest.approx([10.0, 20 + 2 / (1 + math.exp(-3)) * 10, 30.0, 40 + 2 * 0.5 * 30])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), starts=st.lists(st.booleans(), min_size=1, max_size=9))
def test_it_is_its_equation_one_position_at_a_time(seed, starts):
    module = randomized(SmearGate(window=3).build(5), seed)
    x = torch.randn(1, len(starts), 5, generator=torch.Generator().manual_seed(seed))
    begins = torch.tensor([[True, *starts[1:]]])
    with torch.no_grad():
        got = module(x, begins)[0].double()
        for t, begin in enumerate(begins[0]):
            row = x[0, t].double()
            if not begin:
                gate = module.lam.double() * torch.sigmoid(module.w.double() @ row[:3])
                row = row + gate * x[0, t - 1].double()
            assert torch.allclose(got[t], row, atol=1e-5)


def test_it_begins_as_no_change_and_can_leave_it():
    module = SmearGate().build(16)
    module.reset(torch.Generator())
    x = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    out = module(x, torch.tensor([[True, False, False, False]]))
    assert torch.equal(out, x)
    out.square().sum().backward()
    assert module.lam.grad != 0, "the gate is half open, so its strength has a gradient"
