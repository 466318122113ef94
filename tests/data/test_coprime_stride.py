"""Coprime strides: a shard's cycle shows each of its blocks once; batches mix shards as defined."""

from itertools import pairwise
from math import gcd
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.coprime_stride import CoprimeStride, Walk
from pgolf.errors import ConfigError
from tests.data.streams import opened, positions, take, written

CONTEXT = 8
LENGTHS = (400, 123, 90, 260, 8, 9)  # the last but one is too short for a block and its last target


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tokens"), [(n, [0]) for n in LENGTHS])


@given(
    tokens=st.integers(9, 400), size=st.integers(2, 8), seed=st.integers(0, 2**31), shard=st.integers(0, 9)
)
def test_a_cycle_visits_every_block_once(tokens, size, seed, shard):
    walk = Walk(1000, tokens, size, seed, shard)
    for _ in range(3):
        phase, blocks = walk.phase, walk.blocks
        assert 0 <= phase <= min(size - 1, tokens - size - 1)
        assert blocks == (tokens - 1 - phase) // size >= 1
        assert gcd(walk.stride, blocks) == 1
        assert 0 <= walk.start < blocks
        visited = [walk.next() for _ in range(blocks)]
        assert sorted(visited) == [1000 + phase + j * size for j in range(blocks)]
        assert max(visited) + size < 1000 + tokens, "the last target is in the shard"
        assert walk.remaining == 0
        visited.append(walk.next())  # the next cycle begins
        walk.visited -= 1
        assert walk.cycle > 0


def test_a_walk_steps_by_its_stride():
    walk = Walk(0, 1000, 10, seed=0, shard=3)
    first, second, third = (walk.next() - walk.phase for _ in range(3))
    assert (second - first) // 10 % walk.blocks == walk.stride == (third - second) // 10 % walk.blocks


def test_phases_starts_and_strides_are_drawn_from_their_whole_ranges():
    walks = [Walk(0, 61, 5, seed, shard=0) for seed in range(600)]
    assert {w.phase for w in walks} == set(range(5))
    twelve = [w for w in walks if w.blocks == 12]
    assert {w.start for w in twelve} == set(range(12))
    assert {w.stride for w in twelve} == {1, 5, 7, 11}
    short = {Walk(0, 7, 5, seed, shard=0).phase for seed in range(40)}
    assert short == {0, 1}, "a shard of seven tokens has room for two phases"


def test_each_shard_and_cycle_draws_its_own():
    draws = {(w.phase, w.start, w.stride) for w in (Walk(0, 5000, 7, 1, shard) for shard in range(8))}
    assert len(draws) == 8
    walk = Walk(0, 5000, 7, 1, 0)
    first = walk.phase, walk.start, walk.stride
    for _ in range(walk.blocks + 1):
        walk.next()
    assert (walk.phase, walk.start, walk.stride) != first


@given(rows=st.integers(1, 24), step=st.integers(0, 30), low=st.integers(1, 5), high=st.integers(1, 9))
def test_a_batch_draws_on_as_many_shards_as_defined(rows, step, low, high):
    loader = CoprimeStride(shards_at_start=low, shards_at_end=high, ramp_steps=20)
    remaining = np.array([50, 3, 0, 17, 4, 9, 2])
    counts = loader._counts(remaining, rows, step, np.random.default_rng(step))
    ramp, most = min(step / 20, 1), min(7, rows)
    low, high = min(low, most), min(high, most)
    assert counts.sum() == rows
    assert (counts > 0).sum() == round(low + ramp * (high - low))


@pytest.mark.parametrize(("step", "power"), [(0, 0.9), (10, 0.7), (50, 0.5)])
def test_shards_are_weighted_by_a_power_of_what_they_have_left(step, power):
    loader = CoprimeStride(shards_at_start=1, shards_at_end=1, ramp_steps=20)
    remaining = np.array([81, 16, 0])
    rng = np.random.default_rng(0)
    drawn = sum(loader._counts(remaining, 1, step, rng) for _ in range(4000)) / 4000
    weights = np.array([81.0, 16.0, 1.0]) ** power
    assert drawn == pytest.approx(weights / weights.sum(), abs=0.025)


def test_rows_of_a_batch_are_interleaved(directory):
    """Repeat: one row of each shard that has any left."""
    ends = np.cumsum(LENGTHS)
    loader = CoprimeStride(shards_at_start=3, shards_at_end=3)
    orders = set()
    for batch in positions(take(opened(directory, loader, CONTEXT, 12), 20)):
        shards = [int(np.searchsorted(ends, at, side="right")) for at in batch]
        left = {s: shards.count(s) for s in shards}
        orders.add(tuple(shards[:3]))
        while left:
            turn, shards = shards[: len(left)], shards[len(left) :]
            assert sorted(turn) == sorted(left)
            left = {s: n - 1 for s, n in left.items() if n > 1}
    assert len(orders) > 5


def test_blocks_of_a_shard_are_shuffled_within_a_batch(directory):
    """Else a batch's rows would step through the shard in the order of its stride."""
    loader = CoprimeStride(shards_at_start=1, shards_at_end=1)
    steps = []
    for batch in positions(take(opened(directory, loader, CONTEXT, 6), 12)):
        steps.append(len({b - a for a, b in pairwise(batch)}))
    assert np.mean(steps) > 3


def test_every_shard_with_room_is_drawn_on_and_covered(directory):
    loader = CoprimeStride(shards_at_start=3, shards_at_end=5, ramp_steps=10)
    seen = np.zeros(sum(LENGTHS), dtype=int)
    for batch in positions(take(opened(directory, loader, CONTEXT, 10), 60)):
        for at in batch:
            seen[at : at + CONTEXT] += 1
    at = 0
    for length in LENGTHS:
        share = (seen[at : at + length] > 0).mean()
        assert share == 0 if length <= CONTEXT else share > 0.8
        at += length


def test_shards_that_hold_no_block_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="longer than one window"):
        opened(written(tmp_path, [(8, [0]), (3, [0])]), CoprimeStride(), 8, 2)
