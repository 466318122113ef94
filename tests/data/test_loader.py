"""What every loader keeps: the same global batch on any number of ranks, nothing of a token twice an epoch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pgolf.data.coprime_stride import CoprimeStride
from pgolf.data.loader import Batches, Windows
from pgolf.data.packed import Packed
from pgolf.data.sequential import Sequential
from pgolf.data.shuffled_windows import ShuffledWindows
from pgolf.errors import ConfigError, DataError
from pgolf.formats.shards import BOS
from tests.data.streams import opened, positions, take, written

CONTEXT, ROWS = 16, 12
LOADERS = [
    ShuffledWindows(),
    Sequential(),
    CoprimeStride(shards_at_start=2, shards_at_end=3),
    Packed(tokens_per_row=20),
]
LENGTHS = (700, 333, 401)
every_loader = pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.kind)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards; the second begins inside a document."""
    documents = [list(range(0, 700, 37)), list(range(5, 333, 41)), [0, 1, 90, 200]]
    return written(tmp_path_factory.mktemp("tokens"), list(zip(LENGTHS, documents, strict=True)))


@every_loader
@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_ranks_rows_together_are_one_ranks_batch(directory, loader, world):
    alone = take(opened(directory, loader, CONTEXT, ROWS, seed=5), 30)
    ranks = [
        take(opened(directory, loader, CONTEXT, ROWS, seed=5, rank=r, world=world), 30) for r in range(world)
    ]
    for i, whole in enumerate(alone):
        for part in ("tokens", "starts", "targets"):
            together = torch.cat([getattr(rank[i], part) for rank in ranks])
            assert torch.equal(together, getattr(whole, part))


@every_loader
def test_rows_that_cannot_be_shared_evenly_are_refused(directory, loader):
    with pytest.raises(ConfigError, match="shared evenly"):
        opened(directory, loader, CONTEXT, ROWS, rank=0, world=5)


@every_loader
def test_targets_are_the_tokens_that_follow(directory, loader):
    for batch in take(opened(directory, loader, CONTEXT, ROWS), 20):
        assert torch.equal(batch.targets[:, :-1], batch.tokens[:, 1:])
        ordinary = (batch.targets != BOS) & (batch.tokens != BOS)
        assert (batch.targets - batch.tokens)[ordinary].eq(1).all()
        assert batch.tokens.shape == batch.targets.shape == batch.starts.shape
        assert batch.tokens.shape == (ROWS, loader.row_tokens(CONTEXT))
        assert batch.tokens.dtype == batch.targets.dtype == torch.int64


@every_loader
def test_starts_mark_each_documents_first_token_and_each_rows(directory, loader):
    for batch in take(opened(directory, loader, CONTEXT, ROWS), 20):
        assert batch.starts[:, 0].all()
        assert torch.equal(batch.starts[:, 1:], batch.tokens[:, 1:] == BOS)


@every_loader
def test_no_token_is_an_input_twice_in_the_first_half_of_an_epoch(directory, loader):
    """Half: the coprime loader's shards do not end their cycles together."""
    seen = np.zeros(sum(LENGTHS), dtype=int)
    row = loader.row_tokens(CONTEXT)
    for batch in positions(
        take(opened(directory, loader, CONTEXT, ROWS, seed=3), sum(LENGTHS) // (2 * ROWS * row))
    ):
        for at in batch:
            seen[at : at + row] += 1
    assert seen.max() == 1


@every_loader
def test_begun_again_it_is_the_same(directory, loader):
    """The steps that warm a compiler up are taken back, the data with them."""
    batches = opened(directory, loader, CONTEXT, ROWS, seed=1)
    assert positions(take(batches, 9)) == positions(take(batches, 9))


@pytest.mark.parametrize("loader", [ShuffledWindows(), CoprimeStride()], ids=lambda loader: loader.kind)
def test_the_seed_decides_the_order(directory, loader):
    a, b, c = (positions(take(opened(directory, loader, CONTEXT, 4, seed), 20)) for seed in (1, 1, 2))
    assert a == b
    assert a != c


@every_loader
def test_no_global_randomness_is_used_or_disturbed(directory, loader):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    a = positions(take(opened(directory, loader, CONTEXT, 4, 1), 5))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    torch.manual_seed(99)
    np.random.seed(99)
    assert positions(take(opened(directory, loader, CONTEXT, 4, 1), 5)) == a


@every_loader
def test_where_the_files_lie_decides_nothing(directory, loader, tmp_path):
    elsewhere = tmp_path / "another" / "place"
    elsewhere.mkdir(parents=True)
    for file in directory.iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    here, there = (positions(take(opened(d, loader, CONTEXT, 4, 7), 20)) for d in (directory, elsewhere))
    assert here == there


@every_loader
def test_only_training_shards_are_read(directory, loader):
    batches = opened(directory, loader, CONTEXT, 4)
    assert batches.tokens == sum(LENGTHS)
    assert not any((b.tokens == 9).any() for b in take(batches, 60))


@every_loader
def test_no_training_shard_is_an_error(loader, tmp_path):
    with pytest.raises(DataError, match="train split has a shard"):
        opened(tmp_path, loader, CONTEXT, 4)


def test_windows_are_shuffled_windows(directory):
    assert positions(take(Windows(directory, CONTEXT, 4, 3), 9)) == positions(
        take(Batches(directory, ShuffledWindows(), CONTEXT, 4, 3), 9)
    )
