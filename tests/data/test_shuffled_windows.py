"""Shuffled windows: each window of an epoch once, in another order every time."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.shuffled_windows import ShuffledWindows
from pgolf.errors import ConfigError
from tests.data.streams import opened, positions, take, written

CONTEXT = 16


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tokens"), [(700, [0, 37]), (333, [0])])


def flat(directory: Path, seed: int, rows: int, n: int) -> list[int]:
    batches = positions(take(opened(directory, ShuffledWindows(), CONTEXT, rows, seed), n))
    return [at for batch in batches for at in batch]


@given(seed=st.integers(0, 2**31), rows=st.sampled_from([1, 3, 5]))
def test_an_epoch_shows_every_window_once_and_a_token_at_most_once(directory, seed, rows):
    """Read three epochs' worth of rows; an epoch's windows are those of one phase a shard, all of them."""
    visited = flat(directory, seed, rows, 200 // rows)
    orders = []
    for _ in range(3):
        phases = [
            next(at - begin for at in visited if (at >= 700) == (begin > 0)) % CONTEXT for begin in (0, 700)
        ]
        windows = [
            begin + at
            for begin, size, phase in ((0, 700, phases[0]), (700, 333, phases[1]))
            for at in range(phase, size - CONTEXT, CONTEXT)
        ]
        epoch, visited = visited[: len(windows)], visited[len(windows) :]
        assert sorted(epoch) == windows  # each once, none left out
        assert epoch != windows  # and not in order
        orders.append(epoch)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("seed", [0, 42])
def test_the_order_is_the_one_that_old_results_had(directory, seed):
    """The first loader of this project, as it was: shard and offset of every window, drawn per epoch."""

    def epoch(number: int) -> list[tuple[int, int]]:
        rng = np.random.Generator(np.random.PCG64([seed, number]))
        passes = []
        for i, size in enumerate((700, 333)):
            phase = int(rng.integers(0, min(CONTEXT, max(size - CONTEXT, 1))))
            offsets = np.arange(phase, size - CONTEXT, CONTEXT, dtype=np.int64)
            passes.append(np.stack([np.full_like(offsets, i), offsets], axis=1))
        windows = np.concatenate(passes)
        return [tuple(w) for w in windows[rng.permutation(len(windows))].tolist()]

    expected = [(0, 700)[shard] + at for number in range(4) for shard, at in epoch(number)]
    got = flat(directory, seed, 3, 70)
    assert got == expected[: len(got)]


def test_a_window_longer_than_every_shard_is_refused(directory):
    with pytest.raises(ConfigError, match="longer than one window"):
        opened(directory, ShuffledWindows(), 700, 1)
    assert len(take(opened(directory, ShuffledWindows(), 699, 1), 3)) == 3  # the longest that fits
