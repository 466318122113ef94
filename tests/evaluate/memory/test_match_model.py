"""The match and its rates against looking for it."""

import numpy as np

from pgolf.evaluate.memory.gate import Confidence, Learned, Odds
from pgolf.evaluate.memory.match_model import HALF, MatchModel
from tests.evaluate.memory.byhand import targets
from tests.evaluate.memory.laws import DOCUMENTS, MemoryLaws, drive, table, text
from tests.nets import BOS

P = np.full(9, 1 / 9)


class TestMatchModel(MemoryLaws):
    SECTIONS = (MatchModel(lengths=(1, 2, 4), gate=Odds()), MatchModel(lengths=(2, 3, 5), gate=Learned()))


def found(known: list[int], inputs: list[int], lengths: tuple[int, ...]) -> tuple[int, int] | None:
    """Length of the longest match, and what followed its latest occurrence."""
    for length in sorted(lengths, reverse=True):
        context = inputs[len(inputs) - length :] if length <= len(inputs) else None
        ends = [i for i in range(length, len(known)) if known[i - length : i] == context]
        if ends:
            return length, known[ends[-1]]
    return None


def test_it_is_the_longest_match_with_a_rate_by_length():
    section = MatchModel(lengths=tuple(range(1, 9)), trust=4.0, gate=Confidence(threshold=0.4, beta=1.0))
    ids = text(6, 240)
    got = np.exp(drive(section.build(table(P)), ids, DOCUMENTS).answers)
    pending: list[tuple[int, bool]] = []
    right, all_, gated = {}, {}, 0
    for target, known, inputs in targets(ids):
        if len(inputs) == 1:  # a document begins
            right, all_, pending = {}, {}, []
        if len(known) == len(inputs):  # a block begins: what came of the one before is told
            for length, hit in pending:
                right[length], all_[length] = right.get(length, 0) + hit, all_.get(length, 0) + 1
            pending = []
        expected = P.copy()
        if match := found(known, inputs, section.lengths):
            length, h = match
            pending.append((length, bool(h == ids[target])))
            rate = (right.get(length, 0) + 4 * length / (length + HALF)) / (all_.get(length, 0) + 4)
            if rate >= 0.4:
                gated += 1
                expected[h] *= np.e
        assert np.allclose(got[target], expected / expected.sum(), rtol=1e-9), (target, match)
    assert gated > 20
    assert (ids == BOS).sum() > 3
