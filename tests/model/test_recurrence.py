"""Depth recurrence: the order, when it grows, and that it is the same weights again."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.data.loader import document_starts
from pgolf.model.recurrence import Recurrence
from tests.conformance.in_network import InNetworkContract
from tests.nets import network, small, stream

BAND = Recurrence(first=1, last=2, passes=3, from_fraction=0.35)


class TestRecurrence(InNetworkContract):
    def on(self):
        return small(layers=5, recurrence=BAND)

    def off(self):
        return small(layers=5)


class TestUniversal(InNetworkContract):
    """One stored block, executed four times."""

    def on(self):
        return small(layers=1, recurrence=Recurrence(first=0, last=0, passes=4, from_fraction=0.0))

    def off(self):
        return small(layers=1)


def test_the_published_order():
    """Layers 3 to 5 of 11, three passes: encoder 0 1 2 3 4 5 3 4, decoder 5 3 4 5 6 7 8 9 10."""
    order = Recurrence(first=3, last=5, passes=3).order(11, 3)
    assert order[: len(order) // 2] == [0, 1, 2, 3, 4, 5, 3, 4]
    assert order[len(order) // 2 :] == [5, 3, 4, 5, 6, 7, 8, 9, 10]
    assert Recurrence(first=3, last=5, passes=3).order(11, 1) == list(range(11))


def test_passes_switch_on_and_stay_on():
    one_by_one = BAND.but(from_fraction=0.5, stagger_fraction=0.15)
    assert [BAND.passes_at(f) for f in (0.0, 0.349, 0.35, 1.0)] == [1, 1, 3, 3]
    assert [one_by_one.passes_at(f) for f in (0.0, 0.5, 0.649, 0.65, 1.0)] == [1, 2, 2, 3, 3]
    assert BAND.switches() == (0.35,)
    assert one_by_one.switches() == (0.5, 0.65)


def test_the_network_says_when_it_changes():
    built = network(small(layers=5, recurrence=BAND))
    assert len(built.order) == 9, "a new network has everything on: it is what is deployed"
    assert built.set_progress(0.0)
    assert built.order == (0, 1, 2, 3, 4)
    assert not built.set_progress(0.34)
    assert built.set_progress(0.35)
    assert built.order == (0, 1, 2, 1, 2, 1, 2, 3, 4)
    assert built.switches() == (0.35,)
    assert network().switches() == () and not network().set_progress(0.5)


def test_before_it_begins_the_network_is_the_plain_one():
    """The same weights say the same, the rows of the longer skip table left alone."""
    looped, plain = network(small(layers=5, recurrence=BAND)), network(small(layers=5))
    weights = looped.state_dict()
    with torch.no_grad():
        for name, p in plain.named_parameters():
            p.copy_(weights[name][: len(p)] if name == "u_net.w" else weights[name])
        tokens = stream(1, 10, 2)
        looped.set_progress(0.0)
        assert torch.equal(looped(tokens, document_starts(tokens)), plain(tokens, document_starts(tokens)))


def test_it_is_the_unrolled_network_with_tied_weights():
    config = small(layers=4, recurrence=Recurrence(first=1, last=2, passes=2, from_fraction=0.0))
    looped, unrolled = network(config), network(small(layers=6))
    weights = looped.state_dict()
    with torch.no_grad():
        for name, p in unrolled.named_parameters():
            parts = name.split(".")
            if parts[0] == "blocks":
                parts[1] = str([0, 1, 2, 1, 2, 3][int(parts[1])])
            p.copy_(weights[".".join(parts)])
        tokens = stream(1, 10, 2)
        assert torch.equal(looped(tokens, document_starts(tokens)), unrolled(tokens, document_starts(tokens)))


@pytest.mark.parametrize(("layers", "skips"), [(11, 8), (9, 7), (4, 5)])
def test_skips_are_derived_from_the_longest_order(layers, skips):
    config = small(layers=layers, recurrence=Recurrence(first=1, last=3, passes=3))
    assert network(config).u_net.w.shape[0] == skips


@pytest.mark.parametrize(("change", "message"), [
    ({"first": 3, "last": 2}, r"first is at most recurrence\.last"),
    ({"passes": 1}, "greater than or equal to 2"),
    ({"from_fraction": 0.9, "stagger_fraction": 0.1, "passes": 3}, "before the run ends"),
])  # fmt: skip
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Recurrence.model_validate(change)


def test_a_band_beyond_the_model_is_refused_with_the_last_layer():
    with pytest.raises(ValidationError, match="one of the model's layers"):
        small(layers=4, recurrence=Recurrence(first=2, last=4))
