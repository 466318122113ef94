"""What was submitted, what it is worth in the submitted arithmetic, and that it is not accepted for a score."""

import numpy as np
import pytest
from pydantic import ValidationError

from pgolf.errors import UnlawfulScore
from pgolf.evaluate.memory.byte_ppm import BytePpm
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from pgolf.evaluate.scorer import score
from tests.evaluate.memory.laws import DOCUMENTS, drive, table

PIECES = ("", "", "61", "62", "6162", "616261")
P = np.array([0.1, 0.1, 0.2, 0.2, 0.2, 0.2])
SECTION = BytePpm(research=True, pieces=PIECES, order=2)
IDS = np.array([1, 2, 3, 2, 3, 4, 5, 4, 4, 2, 3, 1, 5, 4])


def chance(known: bytes, context: bytes, byte: int, order: int = 2) -> tuple[float, float]:
    """PPM-D by counting in the bytes so far."""
    got, left, most = 0.0, 1.0, 0.0
    for n in range(min(order, len(context)), -1, -1):
        tail = context[len(context) - n :]
        came = [known[i] for i in range(n, len(known)) if known[i - n : i] == tail]
        if came:
            counts = {b: came.count(b) for b in came}
            most = most or (2 * max(counts.values()) - 1) / (2 * len(came))
            got += left * max(2 * counts.get(byte, 0) - 1, 0) / (2 * len(came))
            left *= len(counts) / (2 * len(came))
    return got + left / 256, most


def test_it_is_the_submitted_arithmetic():
    got = drive(SECTION.build(table(P)), IDS, DOCUMENTS).answers
    pieces = [bytes.fromhex(p) for p in PIECES]
    for target in range(1, 12):  # the first document
        known = b"".join(pieces[t] for t in IDS[: target - (target - 1) % DOCUMENTS.chunk])
        before = b"".join(pieces[t] for t in IDS[:target])
        for token, piece in enumerate(pieces):
            cost = 0.0 if piece else np.log(P[token])
            for j in range(len(piece)):
                ppm, most = chance(known, before + piece[:j], piece[j])
                part = SECTION.sure if most >= SECTION.confident else SECTION.unsure
                cost += np.log(part * P[token] ** (1 / len(piece)) + (1 - part) * ppm)
            assert got[target, token] == pytest.approx(cost)


def scores(memory):
    mode = DOCUMENTS.but(memory=memory)
    ids, counts = IDS.astype(np.uint16), np.ones(len(IDS), dtype=np.uint16)
    return mode, score(memory.build(table(P)), ids, counts, mode)


def test_its_sums_are_refused_unless_the_mode_is_outside_the_rules():
    mode, got = scores(SECTION)
    assert got.sum_error > 0.01
    assert mode.outside_rules == [BytePpm.OUTSIDE_RULES]
    with pytest.raises(UnlawfulScore, match="L3"):
        got.verify()
    assert got.verify(outside_rules=bool(mode.outside_rules)) is got


def test_it_is_named_wherever_it_stands_in_a_chain():
    mode = DOCUMENTS.but(memory=UnigramCache(base=SECTION))
    assert mode.outside_rules == [BytePpm.OUTSIDE_RULES]
    assert DOCUMENTS.but(memory=UnigramCache()).outside_rules == []
    assert DOCUMENTS.outside_rules == []
    assert mode.plain_mode.outside_rules == []


def test_it_has_to_be_declared():
    with pytest.raises(ValidationError, match="research"):
        BytePpm(pieces=PIECES)
