"""Causality and isolation of the whole network, whatever it is built from, at random parameters."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data.loader import document_starts
from pgolf.model.attention import Attention
from pgolf.model.ln_scale import LnScale
from pgolf.model.mlp import Mlp
from pgolf.model.residual import Residual
from pgolf.model.rope import Rope
from pgolf.model.softcap import Softcap
from pgolf.model.u_net import UNet
from tests.nets import VOCAB, network, small, stream

CONFIGS = st.builds(
    small,
    layers=st.integers(1, 6),
    attention=st.sampled_from([Attention(heads=4, kv_heads=k) for k in (1, 2, 4)]),
    rope=st.sampled_from([Rope(dims=2), Rope(dims=4)]),
    mlp=st.sampled_from([Mlp(), Mlp(negative_slope=0.5)]),
    residual=st.builds(Residual, mix=st.booleans(), scales=st.booleans()),
    u_net=st.sampled_from([UNet(), None]),
    ln_scale=st.sampled_from([LnScale(), None]),
    softcap=st.sampled_from([Softcap(), None]),
)
SEEDS = st.integers(0, 2**31 - 1)
TIME = 12


def says(built, tokens):
    with torch.no_grad():
        return built(tokens, document_starts(tokens))[0]


def other(tokens: torch.Tensor, where: slice) -> torch.Tensor:
    """The same row with other tokens there; BOS stays where it is."""
    changed = tokens.clone()
    part = changed[:, where]
    changed[:, where] = torch.where(part == 1, part, 2 + (part - 1) % (VOCAB - 2))
    return changed


@settings(max_examples=40, deadline=None)
@given(config=CONFIGS, seed=SEEDS, documents=st.integers(0, 3), at=st.integers(1, TIME - 1))
def test_no_prediction_changes_with_later_tokens(config, seed, documents, at):
    built, tokens = network(config, seed), stream(seed, TIME, documents)
    before, after = says(built, tokens), says(built, other(tokens, slice(at, None)))
    assert torch.equal(before[:at], after[:at])


@settings(max_examples=40, deadline=None)
@given(config=CONFIGS, seed=SEEDS, documents=st.integers(0, 3), at=st.integers(1, TIME - 1))
def test_no_prediction_changes_with_another_document(config, seed, documents, at):
    tokens = stream(seed, TIME, documents)
    tokens[:, at] = 1
    built = network(config, seed)
    before, after = says(built, tokens), says(built, other(tokens, slice(0, at)))
    assert torch.equal(before[at:], after[at:])


@settings(max_examples=20, deadline=None)
@given(config=CONFIGS, seed=SEEDS)
def test_the_past_does_count(config, seed):
    """The control: a network that ignores its context would keep both laws."""
    built, tokens = network(config, seed, std=1.0), stream(seed, TIME, 0)
    before, after = says(built, tokens), says(built, other(tokens, slice(2, 3)))
    assert not torch.equal(before[-1], after[-1])


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, rows=st.integers(2, 5))
def test_rows_of_a_batch_do_not_meet(seed, rows):
    built = network(seed=seed)
    tokens = torch.cat([stream(seed + i, TIME, 2) for i in range(rows)])
    together = torch.stack([says(built, tokens[i : i + 1]) for i in range(rows)])
    with torch.no_grad():
        assert torch.allclose(built(tokens, document_starts(tokens)), together, atol=1e-4)
