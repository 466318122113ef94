"""The bias against its own definition, a document's block at a time."""

from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from pgolf.evaluate.memory.context_mixing import ContextMixing
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from tests.evaluate.memory.laws import CHEAP, DOCUMENTS, ROUND, MemoryLaws, drive, table, text
from tests.nets import BOS

P = np.array([0.2, 0.1, 0.1, 0.05, 0.05, 0.1, 0.2, 0.1, 0.1])


class TestUnigramCache(MemoryLaws):
    SECTIONS = (
        UnigramCache(rate=0.1),
        UnigramCache(strength=0.3, rate=0.0),
        UnigramCache(rate=0.1, gate=None),
        UnigramCache(strength=0.2, rate=0.05),
    )


def test_a_bias_that_nothing_moves_is_refused():
    with pytest.raises(ValidationError, match="counts"):
        UnigramCache(document=False, share_documents=True)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def test_it_is_counts_and_a_gradient():
    ids, section = text(3), UnigramCache(strength=0.3, rate=0.1, gate=None)
    got = np.exp(drive(section.build(table(P)), ids, DOCUMENTS).answers)
    starts = [*np.flatnonzero(ids == BOS).tolist(), len(ids) - 1]
    for begin, end in pairwise(starts):
        counts, excess = np.zeros(9), np.zeros(9)
        for at in range(begin + 1, end + 1, DOCUMENTS.chunk):
            expected = softmax(np.log(P) + 0.3 * np.log1p(counts) + 0.1 * excess)
            block = range(at, min(at + DOCUMENTS.chunk, end + 1))
            for target in block:
                assert np.allclose(got[target], expected, rtol=1e-9)
            for target in block:
                counts[ids[target]] += 1
                excess[ids[target]] += 1
                excess -= expected


def test_rounds_count_for_those_after_them():
    ids = text(4)
    section = UnigramCache(
        strength=0.5, rate=0.0, gate=None, document=False, share_documents=True, round_tokens=ROUND
    )
    seen = drive(section.build(table(P)), ids, DOCUMENTS)
    for target in range(1, len(ids)):
        earlier = ids[1:][seen.rounds[1:] < seen.rounds[target]]
        counts = np.bincount(earlier, minlength=9)
        assert np.allclose(
            np.exp(seen.answers[target]), softmax(np.log(P) + 0.5 * np.log1p(counts)), rtol=1e-9
        )


@pytest.mark.parametrize("section", [
    UnigramCache(share_documents=True, round_tokens=ROUND, rate=0.1),
    ContextMixing(orders=(1, 2), share_documents=True, round_tokens=ROUND),
], ids=lambda s: s.kind)  # fmt: skip
def test_what_is_shared_does_not_depend_on_who_shared_a_batch(section):
    """A document's last block is told like every other, whether or not a neighbour goes on."""
    ids = text(6)
    alone, together = (drive(section.build(CHEAP), ids, DOCUMENTS.but(rows=rows)).answers for rows in (1, 64))
    assert np.nanmax(np.abs(alone - together)) < 1e-9
