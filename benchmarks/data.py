"""Tokenization throughput per core on the embedded corpus, and the loaders against a naive one."""

import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from pgolf.data.batch import Batch
from pgolf.data.case_marks import CaseMarks
from pgolf.data.case_ops import CaseOps
from pgolf.data.coprime_stride import CoprimeStride
from pgolf.data.corpus import stdlib_documents
from pgolf.data.cross_ws import CrossWs
from pgolf.data.loader import Batches
from pgolf.data.packed import Packed
from pgolf.data.sequential import Sequential
from pgolf.data.shuffled_windows import ShuffledWindows
from pgolf.data.sp_bpe import SpBpe
from pgolf.formats.shards import BOS, shard_name, write_shard

LESSONS, TEXT = 400, 1200  # documents to train on, and how many of them to encode
CONTEXT, ROWS, BATCHES = 1024, 64, 100


def tokenization() -> dict[str, float]:
    """MB of text a second and core: encoding, and counting the bytes of every token."""
    documents = [document.content for document in stdlib_documents()[:TEXT]]
    size = sum(map(len, documents)) / 1e6
    base, rows = SpBpe(vocab_size=1024), {}
    for name, kind in {
        "sp_bpe": base,
        "cross_ws": CrossWs(base=base),
        "case_ops": CaseOps(base=base),
        "case_marks": CaseMarks(base=base),
    }.items():
        tokenizer = kind.train(documents[:LESSONS])
        began = time.perf_counter()
        tokens = tokenizer.stream(documents)
        rows[f"{name}_encode_mb_per_second"] = size / (time.perf_counter() - began)
        began = time.perf_counter()
        counted = int(tokenizer.byte_counts(tokens).sum(dtype=np.int64))
        rows[f"{name}_count_mb_per_second"] = size / (time.perf_counter() - began)
        assert counted == sum(map(len, documents)), "every byte is counted"
        rows[f"{name}_tokens_per_byte"] = len(tokens) / counted
    return rows


def loaders() -> dict[str, float]:
    """Naive seconds over ours, for the same number of tokens: above one, ours is faster."""
    rows = {}
    with tempfile.TemporaryDirectory() as work:
        tokens = np.random.default_rng(0).integers(2, 1024, size=20_000_000).astype(np.uint16)
        tokens[::800] = BOS
        write_shard(Path(work) / shard_name("train"), tokens)
        naive = _seconds(_naive(Path(work) / shard_name("train")))
        for loader in (ShuffledWindows(), Sequential(), CoprimeStride(), Packed(tokens_per_row=8 * CONTEXT)):
            rows_of = ROWS * CONTEXT // loader.row_tokens(CONTEXT)
            batches = iter(Batches(Path(work), loader, CONTEXT, rows_of, seed=0))
            rows[f"{loader.kind}_naive_over_ours"] = naive / _seconds(batches)
    return rows


def _naive(shard: Path) -> Iterator[Batch]:
    """Seek, read, copy, row by row, as a first script would."""
    generator = np.random.default_rng(0)
    windows = (shard.stat().st_size - 1024) // 2 // CONTEXT - 1
    while True:
        inputs, targets, starts = [], [], []
        for window in generator.integers(0, windows, size=ROWS):
            with shard.open("rb") as file:
                file.seek(1024 + 2 * CONTEXT * int(window))
                row = np.frombuffer(file.read(2 * CONTEXT + 2), dtype="<u2").astype(np.int64)
            inputs.append(torch.from_numpy(row[:-1].copy()))
            targets.append(torch.from_numpy(row[1:].copy()))
            begins = inputs[-1] == BOS
            begins[0] = True
            starts.append(begins)
        yield Batch(torch.stack(inputs), torch.stack(starts), torch.stack(targets))


def _seconds(batches: Iterator[Batch]) -> float:
    next(batches)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for _batch in islice(batches, BATCHES // 4):
            pass
        best = min(best, time.perf_counter() - began)
    return best
