"""Each law holds on an honest network and fails on the cheat built for it."""

import math

import numpy as np
import pytest
import torch

from pgolf.certify.checks import laws as checks
from pgolf.data.source import TOKENIZER
from pgolf.data.tokenizer import Tokenizer
from pgolf.evaluate.sliding import Sliding
from pgolf.formats.shards import read_split
from tests.evaluate.ledgers import events_of
from tests.nets import VOCAB, network

HONEST = network()
LAWS = (checks.future_is_invisible, checks.documents_are_islands, checks.is_a_distribution)


def peeks(tokens, starts):
    """Knows the next token: it is in the window."""
    return torch.nn.functional.one_hot(tokens.roll(-1, dims=1), VOCAB).float() * 9


def remembers(tokens, starts):
    """Counts the tokens so far in the row, across documents."""
    return torch.nn.functional.one_hot(tokens, VOCAB).float().cumsum(1)


def normalizes_over_time(tokens, starts):
    """Causal to the eye, but centred by a mean over the whole row."""
    logits = HONEST(tokens, starts)
    return logits - logits.mean(1, keepdim=True)


def test_an_honest_network_keeps_every_law():
    assert [law(HONEST, VOCAB) for law in LAWS] == [None, None, None]


@pytest.mark.parametrize(("cheat", "law", "says"), [
    (peeks, checks.future_is_invisible, "later tokens"),
    (normalizes_over_time, checks.future_is_invisible, "later tokens"),
    (remembers, checks.documents_are_islands, "the document before"),
    (lambda t, s: HONEST(t, torch.zeros_like(s)), checks.documents_are_islands, "the document before"),
    (lambda t, s: torch.full((*t.shape, VOCAB), math.inf), checks.is_a_distribution, "not finite"),
    (lambda t, s: torch.zeros(*t.shape, VOCAB + 1), checks.is_a_distribution, f"{VOCAB + 1} logits"),
    (lambda t, s: torch.zeros(*t.shape, VOCAB - 1), checks.is_a_distribution, f"{VOCAB - 1} logits"),
])  # fmt: skip
def test_a_cheat_is_caught_by_its_law(cheat, law, says):
    assert says in law(cheat, VOCAB)


def test_a_causal_cheat_is_not_blamed_for_the_future():
    assert checks.future_is_invisible(remembers, VOCAB) is None


def test_score_once():
    windows = Sliding(context=8, stride=3).plan(40)
    assert checks.score_once(events_of(windows), 40) is None
    assert "2 times" in checks.score_once(events_of(np.concatenate([windows, windows[-1:]])), 40)
    assert "0 times" in checks.score_once(events_of(windows[:-1]), 40)
    peeking = windows.copy()
    peeking[1, 0] = peeking[1, 1]
    assert "no past" in checks.score_once(events_of(peeking), 40)


def test_sums_agree():
    nll, counts = np.array([0.0, 1.0, 2.0]), np.array([9, 1, 2], dtype=np.uint16)
    bpb = 3.0 / math.log(2) / 3
    assert checks.sums_agree(nll, counts, bpb) is None
    assert "the ledger says" in checks.sums_agree(nll, counts, bpb * (1 - 1e-9))
    assert "the ledger says" in checks.sums_agree(nll, counts + np.uint16(1), bpb)


def test_bytes_are_the_text(deployed):
    tokenizer = Tokenizer.load(deployed.tokens / TOKENIZER)
    ids, counts = read_split(deployed.tokens, "validation")
    assert checks.bytes_are_the_text(ids, counts, tokenizer) is None
    for change in (1, -1):
        altered = counts.copy()
        altered[2] = altered[2] + change if change > 0 else altered[2] - 1
        assert "are counted" in checks.bytes_are_the_text(ids, altered, tokenizer)
    moved = counts.copy()  # the same sum, but one document pays for another
    moved[2], moved[-1] = moved[2] + 1, moved[-1] - 1
    assert "the document at token 0" in checks.bytes_are_the_text(ids, moved, tokenizer)
