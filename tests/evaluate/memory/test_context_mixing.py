"""The mixture against its definition, and that its weights learn who is right."""

import numpy as np
import pytest

from pgolf.evaluate.memory.context_mixing import ContextMixing
from tests.evaluate.memory.byhand import followers, targets
from tests.evaluate.memory.laws import CHEAP, DOCUMENTS, ROUND, MemoryLaws, drive, table, text

P = np.array([0.2, 0.1, 0.1, 0.05, 0.05, 0.1, 0.2, 0.1, 0.1])


class TestContextMixing(MemoryLaws):
    SECTIONS = (
        ContextMixing(orders=(1, 2), lead=1.0),
        ContextMixing(orders=(2, 4), unigram=False, match=False),
    )


def test_before_it_learns_it_mixes_by_what_it_was_given():
    """Two experts, e^1 to 1, in the second block of each document."""
    ids, section = text(3), ContextMixing(orders=(1,), unigram=False, match=False, lead=1.0)
    got = np.exp(drive(section.build(table(P)), ids, DOCUMENTS).answers)
    w, mixed = np.e / (np.e + 1), 0
    for target, known, inputs in targets(ids):
        if len(known) > 1 + DOCUMENTS.chunk:
            continue
        came = followers(known, inputs, 1)
        mixed += bool(came)
        share = np.array([came[y] for y in range(9)]) / max(sum(came.values()), 1)
        expected = w * P + (1 - w) * share if came else P
        assert np.allclose(got[target], expected, rtol=1e-9)
    assert mixed > 5


def test_weights_descend_on_the_loss():
    """The step of one observed block is the gradient of its log-likelihood over the root of its uses."""
    ids = np.array([1, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3])
    section = ContextMixing(orders=(1,), unigram=False, match=False, lead=1.0, rate=0.5)
    predictor = section.build(table(P))
    drive(predictor, ids, DOCUMENTS.but(chunk=6))

    def loss(theta: float) -> float:
        """Of the block at targets 7 to 12 (3, 2, 3, 2, 3, 2), by the context's theta; both contexts are as sure."""
        w = np.exp(theta) / (1 + np.exp(theta))
        return float(np.log(w + (1 - w) * P[[3, 2, 3, 2, 3, 2]]).sum())

    slope = (loss(-1 + 1e-6) - loss(-1 - 1e-6)) / 2e-6
    moved = predictor.own[0, 1] - predictor.first[0, 1]
    (bucket,) = np.flatnonzero(moved)
    assert moved[bucket] == pytest.approx(0.5 * slope / np.sqrt(6), rel=1e-5)
    assert moved[bucket] > 0 > (predictor.own[0, 0] - predictor.first[0, 0]).min()


def test_documents_start_from_what_earlier_rounds_learned():
    section = ContextMixing(orders=(1, 2), share_documents=True, round_tokens=ROUND)
    predictor = section.build(CHEAP)
    drive(predictor, text(2), DOCUMENTS)
    assert np.abs(predictor.shared - predictor.first).max() > 0.1
    predictor.open((0, 1))
    assert (predictor.own == predictor.shared).all()
