"""A row that grows: what a cache answers, in whose rows, in which arithmetic, and what it keeps."""

import pytest
import torch

from pgolf.data.starts import document_starts
from pgolf.model.cache import Cache
from tests.nets import EVERYTHING, adapters_of, everything, network, stream

TIME = 14


def rows(count: int = 2, time: int = TIME) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of several documents, and where these start."""
    tokens = torch.cat([stream(seed, time, 2) for seed in range(count)])
    return tokens, document_starts(tokens)


def grown(built, tokens, starts, ends, adapters=(), cache=None):
    """The logits of a row whose pieces end there, put together."""
    cache = Cache() if cache is None else cache
    out = []
    for end in ends:
        out.append(built(tokens[:, :end], starts[:, :end], adapters=adapters, cache=cache))
        assert cache.known == end
    return torch.cat(out, dim=1)


ONE_BY_ONE = range(1, TIME + 1)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("ends", [ONE_BY_ONE, (5, 6, TIME), (TIME,)])
@pytest.mark.parametrize("kind", EVERYTHING)
def test_it_says_what_the_plain_forward_says(kind, ends, adapted):
    built, (tokens, starts) = network(everything(kind)), rows()
    adapters = adapters_of(built, len(tokens)) if adapted else ()
    with torch.no_grad():
        expected = built(tokens, starts, adapters=adapters)
        got = grown(built, tokens, starts, ends, adapters)
        assert (got - expected).abs().max() < 1e-4
        assert torch.equal(grown(built, tokens, starts, ends, adapters), got), "the same calls, the same bits"


def test_another_start_is_another_answer():
    """The control: a cache that forgets documents, or reads none of the past, would be noticed."""
    built, (tokens, starts) = network(everything("shared")), rows()
    none = torch.zeros_like(starts)
    with torch.no_grad():
        got = grown(built, tokens, starts, ONE_BY_ONE)
        assert (got - grown(built, tokens, none, ONE_BY_ONE)).abs().max() > 1e-2
        assert (got - built(tokens, torch.ones_like(starts))).abs().max() > 1e-2


def test_attention_is_written_out_whatever_the_backend():
    """A kernel for whole rows would take the new positions for a row."""
    built, (tokens, starts) = network(everything("looped")), rows()
    with torch.no_grad():
        expected = built(tokens, starts)
        built.backend = "sdpa_documents"
        assert (grown(built, tokens, starts, (4, 9, TIME)) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("kind", EVERYTHING)
def test_in_bfloat16_it_is_as_near_as_the_plain_forward_is(kind):
    built, (tokens, starts) = network(everything(kind), std=0.3), rows()
    with torch.no_grad():
        exact = built(tokens, starts)
        built.dtype = torch.bfloat16
        plain, got = built(tokens, starts), grown(built, tokens, starts, ONE_BY_ONE)
    assert got.dtype == torch.float32
    assert (got - exact).square().mean() <= 2 * (plain - exact).square().mean()


def test_what_it_keeps_carries_no_gradient():
    """The second piece's gradient goes through its own positions, though the first one's graph is gone."""
    built, (tokens, starts) = network(everything("plain")), rows()
    cache, adapters = Cache(), adapters_of(built, len(tokens))
    grown(built, tokens, starts, (6,), adapters, cache).sum().backward()
    assert not any(kept.requires_grad for pair in cache.seen.values() for kept in pair)
    second = built(tokens, starts, adapters=adapters, cache=cache)
    given = [p for own in adapters for adapter in own.values() for p in adapter.parameters()]
    assert all(g.any() for g in torch.autograd.grad(second.square().sum(), given))


def test_a_past_of_inference_can_be_adapted_to():
    built, (tokens, starts) = network(everything("looped")), rows()
    cache = Cache()
    with torch.inference_mode():
        first = grown(built, tokens, starts, (3, 7), cache=cache)
    second = built(tokens, starts, cache=cache)
    second.sum().backward()
    with torch.no_grad():
        expected = built(tokens, starts)
    assert (torch.cat([first, second], dim=1) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("kept", [torch.tensor([0, 2]), torch.tensor([True, False, True])])
def test_rows_that_are_at_an_end_leave(kept):
    built, (tokens, starts) = network(everything("shared")), rows(3)
    cache = Cache()
    with torch.no_grad():
        grown(built, tokens, starts, (4, 8), cache=cache)
        cache.select(kept)
        assert cache.known == 8
        got = grown(built, tokens[kept], starts[kept], (9, TIME), cache=cache)
        assert (got - built(tokens, starts)[kept, 8:]).abs().max() < 1e-4


def test_a_forward_that_failed_half_way_leaves_the_cache_as_it_was():
    built, (tokens, starts) = network(everything("looped")), rows()
    cache = Cache()

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    with torch.no_grad():
        grown(built, tokens, starts, (5,), cache=cache)
        handle = built.blocks[-1].register_forward_pre_hook(stop)
        handle_mlp = built.blocks[2].mlp.register_forward_pre_hook(stop)
        with pytest.raises(Stop):
            built(tokens[:, :9], starts[:, :9], cache=cache)
        handle.remove()
        handle_mlp.remove()
        assert cache.known == 5
        got = grown(built, tokens, starts, (7, TIME), cache=cache)
        assert (got - built(tokens, starts)[:, 5:]).abs().max() < 1e-4


def test_it_is_asked_for_new_positions_of_the_executions_it_knows():
    built, (tokens, starts) = network(everything("plain")), rows()
    whole, lower = Cache(), Cache()
    with torch.no_grad():
        grown(built, tokens, starts, (6,), cache=whole)
        built.lower(tokens[:, :6], starts[:, :6], 2, lower)
        with pytest.raises(AssertionError, match="there are new positions"):
            built(tokens[:, :6], starts[:, :6], cache=whole)
        with pytest.raises(AssertionError, match="lays out"):
            built(tokens, starts, built.layout(starts), cache=whole)
        with pytest.raises(AssertionError, match="first used with"):
            built(tokens, starts, cache=lower)
