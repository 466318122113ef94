"""Batches and ranks: everything once, and no rank waits long for another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.evaluate.schedule import OVERHEAD_POSITIONS, grouped, makespan, shares

DOCUMENTS = st.lists(st.integers(1, 400), min_size=1, max_size=60)


def positions_of(steps: list[int]) -> list[int]:
    """Windows that grow by 10 to 200."""
    return [sum(min(10 * n, 200) for n in range(1, count + 1)) for count in steps]


@given(steps=DOCUMENTS, most=st.integers(1, 8), ranks=st.integers(1, 4))
def test_every_document_is_in_one_batch_with_documents_like_it(steps, most, ranks):
    positions = positions_of(steps)
    made = grouped(list(range(100, 100 + len(steps))), steps, positions, most, ranks)
    members = [d - 100 for batch, _ in made for d in batch]
    assert sorted(members) == list(range(len(steps)))
    assert [steps[d] for d in members] == sorted(steps, reverse=True), "longest first"
    for batch, cost in made:
        assert len(batch) <= most
        own = [d - 100 for d in batch]
        assert cost == OVERHEAD_POSITIONS * max(steps[d] for d in own) + sum(positions[d] for d in own)


@given(steps=DOCUMENTS, ranks=st.integers(1, 4))
def test_it_is_no_slower_than_full_batches(steps, ranks):
    positions = positions_of(steps)
    order = sorted(range(len(steps)), key=lambda d: -steps[d])
    full = [order[at : at + 8] for at in range(0, len(order), 8)]
    costs = [OVERHEAD_POSITIONS * steps[batch[0]] + sum(positions[d] for d in batch) for batch in full]
    made = grouped(list(range(len(steps))), steps, positions, 8, ranks)
    assert makespan([cost for _, cost in made], ranks) <= makespan(costs, ranks) * (1 + 1e-9)


def test_the_longest_documents_are_spread():
    """Sixteen of 1,000 steps and few short ones: two full batches would leave two of four ranks idle."""
    steps = [1000] * 16 + [10] * 8
    made = grouped(list(range(24)), steps, [10_000 * n for n in steps], 8, 4)
    assert [sum(d < 16 for d in batch) for batch, _ in made[:4]] == [4, 4, 4, 4]


@given(costs=st.lists(st.floats(0, 100), max_size=30), ranks=st.integers(1, 5))
def test_ranks_share_what_there_is(costs, ranks):
    parts = shares(costs, ranks)
    assert sorted(i for own in parts for i in own) == list(range(len(costs)))
    bound = max(sum(costs) / ranks, max(costs, default=0.0))
    assert makespan(costs, ranks) <= 2 * bound + 1e-9
    assert parts == shares(list(costs), ranks)


@pytest.mark.parametrize("ranks", [1, 3])
def test_nothing_is_nothing(ranks):
    assert makespan([], ranks) == 0
    assert shares([], ranks) == [[]] * ranks
    assert np.isfinite(makespan([1.0], ranks))
