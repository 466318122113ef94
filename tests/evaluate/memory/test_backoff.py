"""Backoff against the recursion written out."""

import numpy as np
import pytest
from pydantic import ValidationError

from pgolf.evaluate.memory.backoff import Backoff
from tests.evaluate.memory.byhand import followers, targets
from tests.evaluate.memory.laws import DOCUMENTS, MemoryLaws, drive, table, text

P = np.array([0.2, 0.1, 0.1, 0.05, 0.05, 0.1, 0.2, 0.1, 0.1])


class TestBackoff(MemoryLaws):
    SECTIONS = (
        Backoff(orders=(1, 2, 4), alpha=2.0),
        Backoff(orders=(1, 2, 4), gate=None),
        Backoff(orders=(2, 3), alpha=0.0, discount=0.6),
    )


def by_recursion(section: Backoff, known: list[int], inputs: list[int], orders: list[int]) -> np.ndarray:
    if not orders:
        return P
    lower = by_recursion(section, known, inputs, orders[:-1])
    came = followers(known, inputs, orders[-1])
    c, u = sum(came.values()), len(came)
    if not c:
        return lower
    counts = np.array([max(came[y] - section.discount, 0) for y in range(len(P))])
    return (counts + (section.alpha + section.discount * u) * lower) / (c + section.alpha)


@pytest.mark.parametrize("section", [
    Backoff(orders=(1, 2, 4), alpha=2.0), Backoff(orders=(1, 3), alpha=0.5, discount=0.4),
    Backoff(orders=(2,), alpha=0.0, discount=0.9),
])  # fmt: skip
def test_it_is_the_recursion(section):
    ids = text(3)
    got = np.exp(drive(section.but(gate=None).build(table(P)), ids, DOCUMENTS).answers)
    for target, known, inputs in targets(ids):
        expected = by_recursion(section, known, inputs, sorted(section.orders))
        assert np.allclose(got[target], expected, rtol=1e-9)


def test_a_worked_example():
    """After 2 came 3 twice and 4 once; alpha 1: (2 + p) / 4 for 3."""
    ids = np.array([1, 2, 3, 2, 3, 2, 4, 2, 5, 5, 5, 5, 5])
    section = Backoff(orders=(1,), alpha=1.0, gate=None)
    got = np.exp(drive(section.build(table(P)), ids, DOCUMENTS.but(chunk=7)).answers)[8]
    assert got[3] == pytest.approx((2 + P[3]) / 4)
    assert got[4] == pytest.approx((1 + P[4]) / 4)
    assert got[5] == pytest.approx(P[5] / 4)


def test_a_backoff_that_leaves_nothing_is_refused():
    with pytest.raises(ValidationError, match="leaves shorter contexts something"):
        Backoff(alpha=0)
