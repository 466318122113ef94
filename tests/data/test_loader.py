"""Training windows: the same global batch on any number of ranks, every window once an epoch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.loader import Batch, Windows, document_starts
from pgolf.errors import ConfigError
from pgolf.formats.shards import BOS, shard_name, write_shard

CONTEXT = 16


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards whose tokens tell where they stand, with a BOS now and then; and what is not for training."""
    home = tmp_path_factory.mktemp("tokens")
    for i, (length, base) in enumerate(((700, 100), (333, 2000))):
        tokens = np.arange(base, base + length, dtype=np.uint16)
        tokens[::37] = BOS
        write_shard(home / shard_name("train", i), tokens)
    for name in (shard_name("select"), shard_name("validation"), "train_bytes_000000.bin"):
        write_shard(home / name, np.full(500, 9, dtype=np.uint16))
    return home


def take(windows: Windows, n: int) -> list[Batch]:
    stream = iter(windows)
    return [next(stream) for _ in range(n)]


def joined(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([b.tokens for b in batches])


@pytest.mark.parametrize("world", [2, 3, 6])
def test_the_ranks_rows_together_are_one_ranks_batch(directory, world):
    alone = take(Windows(directory, CONTEXT, 6, seed=5), 30)
    ranks = [take(Windows(directory, CONTEXT, 6, 5, rank, world), 30) for rank in range(world)]
    for i, whole in enumerate(alone):
        for part in ("tokens", "starts", "targets"):
            together = torch.cat([getattr(rank[i], part) for rank in ranks])
            assert torch.equal(together, getattr(whole, part))


def test_rows_that_cannot_be_shared_evenly_are_refused(directory):
    with pytest.raises(ConfigError, match="shared evenly"):
        Windows(directory, CONTEXT, 6, 0, 0, 4)


def test_the_same_seed_gives_the_same_windows_and_another_seed_others(directory):
    a, b, c = (joined(take(Windows(directory, CONTEXT, 4, seed), 40)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_no_global_randomness_is_used_or_disturbed(directory):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    a = joined(take(Windows(directory, CONTEXT, 4, 1), 5))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    torch.manual_seed(99)
    assert torch.equal(joined(take(Windows(directory, CONTEXT, 4, 1), 5)), a)


def places(batches: list[Batch]) -> list[tuple[int, int]]:
    """(shard, offset) of every row, read off the tokens themselves."""
    found = []
    for row in joined(batches).tolist():
        k = next(k for k, token in enumerate(row) if token != BOS)
        found.append((0, row[k] - k - 100) if row[k] < 2000 else (1, row[k] - k - 2000))
    return found


@given(seed=st.integers(0, 2**31), rows=st.sampled_from([1, 3, 5]))
def test_an_epoch_shows_every_window_once_and_a_token_at_most_once(directory, seed, rows):
    """Read three epochs' worth of rows; an epoch's windows are those of one phase a shard, all of them."""
    visited = places(take(Windows(directory, CONTEXT, rows, seed), 200 // rows))
    orders = []
    for _ in range(3):
        phases = [next(at for shard, at in visited if shard == s) % CONTEXT for s in (0, 1)]
        windows = [
            (s, at) for s, size in ((0, 700), (1, 333)) for at in range(phases[s], size - CONTEXT, CONTEXT)
        ]
        epoch, visited = visited[: len(windows)], visited[len(windows) :]
        assert sorted(epoch) == windows  # each once, none left out
        assert epoch != windows  # and not in order
        orders.append(epoch)
    assert orders[0] != orders[1] != orders[2]


def test_targets_are_the_tokens_that_follow(directory):
    for batch in take(Windows(directory, CONTEXT, 4, 0), 20):
        assert torch.equal(batch.targets[:, :-1], batch.tokens[:, 1:])
        ordinary = (batch.targets[:, -1] != BOS) & (batch.tokens[:, -1] != BOS)
        assert (batch.targets[:, -1] - batch.tokens[:, -1])[ordinary].eq(1).all()
        assert batch.tokens.shape == batch.targets.shape == batch.starts.shape == (4, CONTEXT)


def test_starts_mark_each_documents_first_token_and_each_rows(directory):
    for batch in take(Windows(directory, CONTEXT, 4, 0), 20):
        assert batch.starts[:, 0].all()
        assert torch.equal(batch.starts[:, 1:], batch.tokens[:, 1:] == BOS)


def test_starts_of_a_worked_example():
    tokens = torch.tensor([[7, 1, 5, 1], [1, 2, 3, 4]])
    assert document_starts(tokens).tolist() == [[True, True, False, True], [True, False, False, False]]
    assert tokens.tolist() == [[7, 1, 5, 1], [1, 2, 3, 4]]


def test_only_training_shards_are_read(directory):
    windows = Windows(directory, CONTEXT, 4, 0)
    assert windows.tokens == 700 + 333
    assert not (joined(take(windows, 60)) == 9).any()


def test_a_window_longer_than_every_shard_is_refused(directory):
    with pytest.raises(ConfigError, match="longer than one window"):
        Windows(directory, 700, 1, 0)
    assert len(take(Windows(directory, 699, 1, 0), 3)) == 3  # the longest that fits
