"""Laws of the scored stream: each target once, from its past alone, in bytes of its own text.

The scorer is run on networks that break a law, and the score must not move the way the cheat wants, or
the checks of the certificate must name it.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.certify.checks.predictions import predictions_see_the_past_alone
from pgolf.certify.dossier import Dossier
from pgolf.certify.perturb import Probe
from pgolf.evaluate.neural import Neural, Plain
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.formats.ledger import check_once
from pgolf.kernels import attention
from tests.evaluate.ledgers import events_of
from tests.nets import VOCAB, network, stream

PLANS = st.integers(2, 16).flatmap(lambda c: st.builds(Sliding, context=st.just(c), stride=st.integers(1, c)))


class Witness:
    """A predictor that writes down every (window, position) it was asked about."""

    def __init__(self):
        self.rows = []

    def __call__(self, tokens, starts):
        self.rows += [row.tolist() for row in tokens]
        return torch.zeros(*tokens.shape, 100)


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, length=st.integers(2, 70))
def test_score_once_for_any_length_context_and_stride(plan, length):
    """Each target's score is log 100 exactly once, so the sum says how often targets were counted."""
    ids = np.where(np.arange(length) % 7 == 0, 1, 5).astype(np.uint16)
    got = score(Plain(Witness()), ids, np.ones(length, np.uint16), plan)
    assert np.allclose(got.nll, [0.0, *[np.log(100)] * (length - 1)])
    assert got.bytes == length - 1
    assert check_once(got.events, length) is None


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, length=st.integers(2, 70))
def test_a_predictor_never_receives_the_last_target_of_its_window(plan, length):
    """Token t is in the inputs only of windows that score t + 1 or later: here every token is its own place."""
    places = np.arange(length, dtype=np.uint16) + 2
    witness = Witness()
    scored = score(Plain(witness), places, np.ones(length, np.uint16), plan)
    last_input = sorted(row[-1] - 2 for row in witness.rows)
    assert last_input == sorted(int(end) - 2 for _, _, end in scored.windows)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(2, 40), plan=PLANS, data=st.data())
def test_the_ledger_checker_finds_any_altered_plan(length, plan, data):
    windows = plan.plan(length)
    row, column = data.draw(st.integers(0, len(windows) - 1)), data.draw(st.integers(1, 2))
    windows[row, column] += data.draw(st.sampled_from([-1, 1]))
    assert check_once(events_of(windows), length) is not None


def mended(monkeypatch, visible):
    """A network whose mask is another."""
    monkeypatch.setattr(attention, "visible", visible)
    return network()


def without_documents(starts):
    return torch.ones(starts.shape[1], starts.shape[1], dtype=torch.bool).tril().expand(len(starts), -1, -1)


def one_too_far(starts):
    honest = torch.ones(starts.shape[1], starts.shape[1], dtype=torch.bool).tril(1)
    document = starts.cumsum(dim=1)
    return honest & (document.unsqueeze(2) == document.unsqueeze(1))


def judged(predictor):
    """What the certificate says of a prediction's past."""
    ids = stream(0, 200, 5)[0].numpy().astype(np.uint16)
    mode = Sliding(context=64, stride=32)
    return predictions_see_the_past_alone(
        Dossier(
            stream=(ids, np.ones(200, np.uint16)),
            evaluate=mode,
            predictor=lambda: predictor,
            vocab_size=VOCAB,
            probe=Probe(tokens=128, places=24),
        )
    )


@pytest.mark.parametrize("mask", [without_documents, one_too_far])
def test_the_certificate_finds_a_broken_mask_in_a_real_network(monkeypatch, mask):
    assert judged(Neural(network())).holds
    broken = judged(Neural(mended(monkeypatch, mask)))
    assert broken.holds is False
    assert "moves by" in broken.evidence


def test_a_network_that_sees_the_next_token_scores_better_than_it_may(monkeypatch):
    """Why the law is there: the cheat pays, and only a check or the round trip tells."""
    ids = stream(0, 200, 5)[0].numpy().astype(np.uint16)
    counts, plan = np.ones(200, np.uint16), Sliding(context=16, stride=16)

    def peeking(tokens, starts):
        return torch.nn.functional.one_hot(tokens.roll(-1, dims=1), VOCAB).float() * 20

    honest = score(Neural(network()), ids, counts, plan).bpb
    assert score(Plain(peeking), ids, counts, plan).bpb < honest
    assert judged(Plain(peeking)).holds is False
