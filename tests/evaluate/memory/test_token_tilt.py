"""Tilting against renormalizing by hand, hints against looking through the text."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.evaluate.memory.gate import Confidence, Learned, Odds
from pgolf.evaluate.memory.tilting import tilted
from pgolf.evaluate.memory.token_tilt import TokenTilt
from tests.evaluate.memory.laws import CHEAP, DOCUMENTS, MemoryLaws, drive, remembered, table, text
from tests.nets import BOS

FIXED = Confidence(threshold=0.5, beta=1.5)


class TestTokenTilt(MemoryLaws):
    SECTIONS = (
        TokenTilt(orders=(1, 2, 4), gate=FIXED),
        TokenTilt(orders=(2, 3), min_count=2, threshold=0.6, gate=Odds(negative=True)),
        TokenTilt(orders=(1, 3, 6), hints=2, gate=Learned()),
    )


@given(seed=st.integers(0, 1000), rows=st.integers(1, 5), hints=st.integers(1, 3))
def test_the_closed_form_is_renormalization(seed, rows, hints):
    drawn = np.random.default_rng(seed)
    below = torch.from_numpy(drawn.normal(size=(rows, 9)) * 3).log_softmax(1)
    at = np.repeat(np.arange(rows), hints)
    tokens = np.concatenate([drawn.permutation(9)[:hints] for _ in range(rows)])
    betas = drawn.normal(size=len(at)) * 4
    p = below.exp().numpy().copy()
    p[at, tokens] *= np.exp(betas)
    p /= p.sum(1, keepdims=True)
    got = tilted(below, at, tokens, betas, below[at, tokens].numpy()).exp().numpy()
    assert np.allclose(got, p, rtol=1e-9)
    assert np.abs(got.sum(1) - 1).max() < 1e-12


def proposal(known: list[int], context: list[int], section: TokenTilt) -> int | None:
    """The token that followed the longest context which is seen often enough, by looking."""
    for order in sorted(section.orders, reverse=True):
        if order > len(context):
            continue
        came = [(known[i], i) for i in range(order, len(known)) if known[i - order : i] == context[-order:]]
        if len(came) < section.min_count:
            continue
        counts = {t: (sum(u == t for u, _ in came), max(i for u, i in came if u == t)) for t, _ in came}
        best = max(counts, key=lambda t: counts[t])
        if counts[best][0] / len(came) >= section.threshold:
            return best
    return None


@pytest.mark.parametrize("section", [
    TokenTilt(orders=(1, 2, 4), gate=Confidence(threshold=0.01, beta=2.0)),
    TokenTilt(orders=(2, 5), min_count=2, threshold=0.7, gate=Confidence(threshold=0.01, beta=2.0)),
])  # fmt: skip
def test_a_document_is_scored_as_by_hand(section):
    """One document; what a block may know are the tokens up to the block's first target."""
    ids = np.array([t for t in text(5) if t != BOS][:150])
    ids[0] = BOS
    p = np.full(9, 0.05)
    p[3] = 0.6
    got = drive(section.build(table(p)), ids, DOCUMENTS).answers
    gated = 0
    for target in range(1, len(ids)):
        known = ids[: target - (target - 1) % DOCUMENTS.chunk].tolist()
        window = ids[:target].tolist()
        expected = p.copy()
        if (h := proposal(known, window, section)) is not None:
            gated += 1
            expected[h] *= np.exp(2.0)
        assert np.allclose(np.exp(got[target]), expected / expected.sum(), rtol=1e-9)
    assert gated > 10


def test_the_gate_does_not_look_at_the_target():
    """Whatever follows, the distribution before it is the same, gated or not."""
    section = TokenTilt(orders=(1, 2, 4), gate=Learned())
    ids = text(7)
    before = remembered(section, ids)
    plain = drive(CHEAP, ids, DOCUMENTS)
    gated = np.flatnonzero((before.answers != plain.answers).any(1)[1:]) + 1
    places = [p for p in gated.tolist() if ids[p] != BOS][::12]
    assert len(places) > 5
    for place in places:
        changed = ids.copy()
        changed[place] = 2 + (ids[place] - 1) % 7
        assert (remembered(section, changed).answers[place] == before.answers[place]).all()


@pytest.mark.parametrize("orders", [(), (2, 1), (2, 2), (0, 1), (65,)])
def test_orders_that_make_no_sense_are_refused(orders):
    with pytest.raises(ValidationError, match="rising numbers"):
        TokenTilt(orders=orders)


def test_a_memory_that_remembers_nothing_is_refused():
    with pytest.raises(ValidationError, match="the document, shared documents, or both"):
        TokenTilt(document=False)
