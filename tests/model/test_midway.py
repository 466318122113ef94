"""Midway of a forward: the rest goes on as if nothing had been, in every network and from every execution."""

import pytest
import torch

from pgolf.data.starts import document_starts
from pgolf.model.cache import Cache
from pgolf.model.midway import Midway
from tests.nets import EVERYTHING, adapters_of, everything, network, small, stream

TIME = 10
EVERYWHERE = [(kind, until) for kind in EVERYTHING for until in range(len(everything(kind).order()) + 1)]


def rows(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.cat([stream(seed, TIME, 2) for seed in range(count)])
    return tokens, document_starts(tokens)


def pieces(built, tokens, starts, until, ends, cache=None) -> list[Midway]:
    """The lower executions of a row whose pieces end there."""
    cache = Cache() if cache is None else cache
    return [built.lower(tokens[:, :end], starts[:, :end], until, cache) for end in ends]


@pytest.mark.parametrize(("kind", "until"), EVERYWHERE)
def test_lower_and_upper_are_the_whole(kind, until):
    """Bit for bit; and nearly, where the lower executions saw the row in pieces."""
    built, (tokens, starts) = network(everything(kind)), rows()
    adapters = [own if step >= until else {} for step, own in enumerate(adapters_of(built, len(tokens)))]
    layout = built.layout(starts)
    with torch.no_grad():
        whole = built.hidden(tokens, starts, adapters=adapters)
        midway = built.lower(tokens, starts, until)
        assert torch.equal(built.upper(midway, layout, adapters), whole)
        assert torch.equal(built.upper(midway, layout, adapters), whole), "nothing of it was used up"
        first, *later = pieces(built, tokens, starts, until, (1, 2, 7, TIME))
        assert (built.upper(first.then(*later), layout, adapters) - whole).abs().max() < 1e-4


@pytest.mark.parametrize(("kind", "until"), EVERYWHERE)
def test_adapters_above_learn_what_they_learn_in_the_whole(kind, until):
    built, (tokens, starts) = network(everything(kind)), rows()
    above = adapters_of(built, len(tokens))[until:]
    adapters = [{}] * until + above
    given = [p for own in above for adapter in own.values() for p in adapter.parameters()]
    if not given:
        return
    with torch.no_grad():
        midway = built.lower(tokens, starts, until)
    built.requires_grad_(False)
    whole = built.hidden(tokens, starts, adapters=adapters)
    upper = built.upper(midway, built.layout(starts), adapters)
    expected, got = (torch.autograd.grad(h.square().cumsum(2).sum(), given) for h in (whole, upper))
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert all(g.any() for g in got)


@pytest.mark.parametrize("kind", EVERYTHING)
def test_rows_that_are_at_an_end_leave(kind):
    built, (tokens, starts) = network(everything(kind)), rows(3)
    kept, cache = torch.tensor([0, 2]), Cache()
    until = len(built.order) - 1
    with torch.no_grad():
        (first,) = pieces(built, tokens, starts, until, (6,), cache)
        cache.select(kept)
        (second,) = pieces(built, tokens[kept], starts[kept], until, (TIME,), cache)
        got = built.upper(first.select(kept).then(second), built.layout(starts[kept]))
        assert (got - built.hidden(tokens, starts)[kept]).abs().max() < 1e-4


def test_it_holds_what_the_rest_reads_and_no_more():
    """The two skips that wait in a plain network of five, halfway; no lane, no visits, no values."""
    built, (tokens, starts) = network(small(layers=5)), rows()
    with torch.no_grad():
        midway = built.lower(tokens, starts, 2)
        assert (midway.step, len(midway.stack)) == (2, 2)
        assert (midway.lane, midway.visits, midway.values, midway.first_value) == (None, {}, {}, None)
        assert torch.equal(midway.x0, built._embedded(tokens, starts))
        assert torch.equal(built.lower(tokens, starts, 0).x, midway.x0)
        assert len(built.lower(tokens, starts, 3).stack) == 1, "the third has read one"


def test_what_does_not_belong_together_is_refused():
    built, (tokens, starts) = network(), rows()
    one, two = (built.lower(tokens, starts, until) for until in (1, 2))
    with pytest.raises(AssertionError, match="before the same execution"):
        one.then(two)
    with pytest.raises(AssertionError, match="done with"):
        built.upper(one, built.layout(starts), adapters_of(built, len(tokens)))
    with pytest.raises(AssertionError, match="or fewer"):
        built.lower(tokens, starts, 4)
