"""Token directories for the loaders' tests: every token but a BOS tells where in the stream it stands."""

from pathlib import Path

import numpy as np
import torch

from pgolf.data.batch import Batch
from pgolf.data.loader import Batches, Loader
from pgolf.formats.shards import BOS, shard_name, write_shard

BASE = 100  # token at position p of the stream: BASE + p, or BOS


def written(home: Path, shards: list[tuple[int, list[int]]]) -> Path:
    """Write training shards given as (length, places of BOS); and what is not for training."""
    at = BASE
    for i, (length, documents) in enumerate(shards):
        tokens = np.arange(at, at + length, dtype=np.uint16)
        tokens[documents] = BOS
        write_shard(home / shard_name("train", i), tokens)
        at += length
    for name in (shard_name("select"), shard_name("validation"), "train_bytes_000000.bin"):
        write_shard(home / name, np.full(500, 9, dtype=np.uint16))
    return home


def take(batches: Batches, n: int) -> list[Batch]:
    stream = iter(batches)
    return [next(stream) for _ in range(n)]


def opened(directory: Path, loader: Loader, context: int, rows: int, seed: int = 0, **ranks: int) -> Batches:
    return Batches(directory, loader, context, rows, seed, **ranks)


def positions(batches: list[Batch]) -> list[list[int]]:
    """Where each row begins in the stream, by batch, read off the tokens themselves."""
    return [[_position(row) for row in batch.tokens] for batch in batches]


def _position(row: torch.Tensor) -> int:
    k = int((row != BOS).nonzero()[0])
    return int(row[k]) - k - BASE
