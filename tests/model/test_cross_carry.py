"""Cross-layer carry: the recurrence written out, constants and learned numbers, and where it begins."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.model.cross_carry import CrossCarry
from pgolf.model.recurrence import Recurrence
from pgolf.model.u_net import UNet
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import network, small, stream

BAND = Recurrence(first=1, last=2, passes=3, from_fraction=0.35)
FROZEN = CrossCarry(beta=(1.5, 0.75), alpha=((0.25, -0.5), (0.125, 1.0)), learned=False)


class TestCrossCarry(TechniqueContract):
    """In the second pass of the band's second layer."""

    def build(self):
        return CrossCarry().build(1, 2)

    def apply(self, module, x, starts):
        visits = {}
        module(x.cos(), 1, visits)
        module(x.sin(), 2, visits)
        return module(x, 2, visits)


class TestInNetwork(InNetworkContract):
    def on(self):
        return small(layers=5, recurrence=BAND.but(carry=CrossCarry()))

    def off(self):
        return small(layers=5, recurrence=BAND)


class TestFrozenInNetwork(InNetworkContract):
    def on(self):
        return small(layers=5, recurrence=BAND.but(carry=FROZEN))

    def off(self):
        return small(layers=5, recurrence=BAND)


def test_worked_example():
    """Band of layers 4 and 5: first pass says 1 and 10; then layer 4 says 2 and layer 5 says 20."""
    module = FROZEN.build(4, 5)
    visits: dict[int, torch.Tensor] = {}
    said = [(3, 7.0), (4, 1.0), (5, 10.0), (4, 2.0), (5, 20.0), (6, 7.0), (6, 8.0)]
    out = [module(torch.full((1, 1, 1), value), layer, visits).item() for layer, value in said]
    assert out == pytest.approx(
        [7, 1, 10, 1.5 * 2 + 0.25 * 1 - 0.5 * 10, 0.75 * 20 + 0.125 * 1 + 1.0 * 10, 7, 8]
    )


def test_the_recurrence_written_out():
    """Order 0 1 2 1 2 1 2 3 4 without skips, block by block."""
    built, tokens = (
        network(small(layers=5, u_net=None, recurrence=BAND.but(carry=CrossCarry()))),
        stream(1, 9, 2),
    )
    beta, alpha, reads, first = built.carry.beta, built.carry.alpha, {}, {}
    built.blocks[0].register_forward_pre_hook(lambda _, args: reads.update(at=args[1]))
    with torch.no_grad():
        got = built.hidden(tokens, tokens == 1)
        x = built._embedded(tokens, tokens == 1)
        for step, layer in enumerate([0, 1, 2, 1, 2, 1, 2, 3, 4]):
            x = built.blocks[layer](x, reads["at"].turn(layer))
            if step in (1, 2):
                first[layer] = x
            elif layer in (1, 2):
                x = beta[layer - 1] * x + alpha[layer - 1, 0] * first[1] + alpha[layer - 1, 1] * first[2]
        assert torch.allclose(built.final_norm(x), got, atol=1e-5)


def test_it_begins_as_plain_recurrence_and_before_the_passes_it_is_not_there():
    tokens = stream(2, 10, 1)
    on, off = (network(small(layers=5, recurrence=BAND.but(carry=c))) for c in (CrossCarry(), None))
    on.load_state_dict(off.state_dict(), strict=False)
    with torch.no_grad():
        on.set_progress(0.0), off.set_progress(0.0)
        assert torch.equal(on(tokens, tokens == 1), off(tokens, tokens == 1))
        on.set_progress(1.0), off.set_progress(1.0)
        assert not torch.equal(on(tokens, tokens == 1), off(tokens, tokens == 1)), "random carry"
        on.carry.reset(torch.Generator())
        assert torch.allclose(on(tokens, tokens == 1), off(tokens, tokens == 1), atol=1e-6)


def test_no_gradient_flows_through_what_is_carried():
    module = FROZEN.build(0, 1)
    first, x = torch.ones(2, 1, 1, 1, requires_grad=True).unbind(), torch.ones(1, 1, 1, requires_grad=True)
    visits: dict[int, torch.Tensor] = {}
    for layer, y in enumerate(first):
        assert module(y, layer, visits) is y
    assert not any(v.requires_grad for v in visits.values())
    module(x, 0, visits).sum().backward()
    assert x.grad.item() == 1.5


def test_constants_are_no_parameters_and_come_back_with_the_config():
    config = small(layers=5, recurrence=BAND.but(carry=FROZEN))
    built = network(config)
    assert not any("carry" in name for name in built.state_dict())
    assert built.carry.beta.tolist() == [1.5, 0.75]
    again = type(config).model_validate(config.plain()).build(24)
    assert torch.equal(again.carry.alpha, torch.tensor(FROZEN.alpha))


def test_learned_numbers_begin_where_they_are_told():
    learned = small(layers=5, recurrence=BAND.but(carry=FROZEN.but(learned=True))).build(24).reset(seed=0)
    assert learned.carry.beta.tolist() == [1.5, 0.75]
    assert learned.roles["carry.beta"] == learned.roles["carry.alpha"] == "control"
    plain = small(layers=5, recurrence=BAND.but(carry=CrossCarry())).build(24).reset(seed=0)
    assert plain.carry.beta.tolist() == [1, 1] and not plain.carry.alpha.any()


def test_skips_take_what_the_carry_made():
    """The encoder's outputs are pushed after the carry: what it silenced gives the skip table no gradient."""
    carry = CrossCarry(beta=(0.0, 1.0), learned=False)
    config = small(layers=4, u_net=UNet(), recurrence=Recurrence(first=0, last=1, passes=2, carry=carry))
    built, tokens = network(config), stream(3, 8, 1)
    built.hidden(tokens, tokens == 1).square().sum().backward()
    assert built.order == (0, 1, 0, 1, 2, 3)
    assert not built.u_net.w.grad[0].any() and built.u_net.w.grad[1].any(), "pushed: layers 0, 1 and a zero"


@pytest.mark.parametrize(("change", "message"), [
    ({"learned": False}, "needs its constants"),
    ({"beta": (1.0, 1.0), "alpha": ((0.0,) * 3,) * 3}, "for every layer of the band"),
    ({"alpha": ((0.0, 0.0), (0.0,))}, "for every layer of the band"),
])  # fmt: skip
def test_tables_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        CrossCarry.model_validate(change)


def test_a_carry_of_another_band_is_refused():
    with pytest.raises(ValidationError, match="as many layers as the band has"):
        Recurrence(first=1, last=3, carry=FROZEN)
