"""Recur-alpha: a layer's own earlier output, kept from the pass before or from the first."""

import pytest
import torch

from pgolf.model.recur_alpha import RecurAlpha
from pgolf.model.recurrence import Recurrence
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import network, small, stream

BAND = Recurrence(first=1, last=2, passes=3, from_fraction=0.35)


class TestRecurAlpha(TechniqueContract):
    """In a second pass."""

    def build(self):
        return RecurAlpha().build(1, 2)

    def apply(self, module, x, starts):
        visits = {}
        module(x.cos(), 2, visits)
        return module(x, 2, visits)


class TestInNetwork(InNetworkContract):
    def on(self):
        return small(layers=5, recurrence=BAND.but(carry=RecurAlpha()))

    def off(self):
        return small(layers=5, recurrence=BAND)


class TestFirstInNetwork(InNetworkContract):
    def on(self):
        return small(layers=5, recurrence=BAND.but(carry=RecurAlpha(kept="first")))

    def off(self):
        return small(layers=5, recurrence=BAND.but(carry=RecurAlpha()))


@pytest.mark.parametrize(
    ("kept", "last"), [("previous", 100 + 0.5 * (10 + 0.5 * 1)), ("first", 100 + 0.5 * 1)]
)
def test_worked_example(kept, last):
    """A layer says 1, then 10, then 100; a = 1/2. The pass before is kept with its addition."""
    module = RecurAlpha(kept=kept, initial=0.5).build(4, 4)
    module.reset(torch.Generator())
    visits: dict[int, torch.Tensor] = {}
    out = [module(torch.full((1, 1, 1), v), 4, visits).item() for v in (1.0, 10.0, 100.0)]
    assert out == pytest.approx([1, 10.5, last])
    assert [module(torch.ones(1, 1, 1), 5, visits).item() for _ in range(2)] == [1, 1], "not of the band"


def test_every_layer_of_the_band_has_a_number_and_begins_at_zero():
    built = small(layers=5, recurrence=BAND.but(carry=RecurAlpha())).build(24).reset(seed=0)
    assert built.carry.a.tolist() == [0.0, 0.0]
    assert built.roles["carry.a"] == "control"


def test_it_begins_as_plain_recurrence():
    tokens = stream(2, 10, 1)
    on, off = (network(small(layers=5, recurrence=BAND.but(carry=c))) for c in (RecurAlpha(), None))
    on.load_state_dict(off.state_dict(), strict=False)
    with torch.no_grad():
        on.carry.a.zero_()
        assert torch.equal(on(tokens, tokens == 1), off(tokens, tokens == 1))
        on.carry.a.fill_(0.1)
        assert not torch.equal(on(tokens, tokens == 1), off(tokens, tokens == 1))


def test_gradients_flow_through_what_is_kept():
    module = RecurAlpha(initial=0.25).build(0, 0)
    module.reset(torch.Generator())
    y, visits = torch.ones(1, 1, 1, requires_grad=True), {}
    module(y * 1, 0, visits)
    module(torch.ones(1, 1, 1), 0, visits).sum().backward()
    assert y.grad.item() == 0.25
