"""Documents to tokens on all cores, in order: chunks go to processes that hold the tokenizer, and come back.

A few chunks a process are in flight, so memory does not grow with the corpus, and the stream does not
depend on how many processes there are.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from pgolf.data.spill import Side
from pgolf.data.tokenizer import Tokenizer
from pgolf.formats.shards import BOS, Tokens

CHUNK_BYTES, CHUNK_DOCUMENTS = 1 << 20, 512  # what a process gets at a time
IN_FLIGHT = 3  # chunks a process


@dataclass
class Encoded:
    """The tokens of some documents of one side, BOS first in each; the bytes they stand for if held out."""

    side: Side
    tokens: Tokens
    lengths: list[int]  # tokens per document
    counts: Tokens | None

    def documents(self) -> Iterator[tuple[Tokens, Tokens | None]]:
        at = 0
        for length in self.lengths:
            part = slice(at, at + length)
            yield self.tokens[part], None if self.counts is None else self.counts[part]
            at += length


_tokenizer: Tokenizer | None = None  # of this worker process


def _start_worker(model: Path) -> None:
    global _tokenizer
    _tokenizer = Tokenizer.load(model)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A parent that is killed says nothing, and its workers would wait for their next chunk for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has one"
    parent.join()
    os._exit(1)


def _work(side: Side, texts: list[bytes]) -> Encoded:
    assert _tokenizer is not None, "a worker starts with its tokenizer"
    return _encode(_tokenizer, side, texts)


def _encode(tokenizer: Tokenizer, side: Side, texts: list[bytes]) -> Encoded:
    """Encode documents. Under a normalizing case coding the sidecar is the published one: raw bytes covered."""
    if side == "train":
        ids = [[BOS, *tokenizer.encode(text)] for text in texts]
        return Encoded(side, _flat(ids), [len(i) for i in ids], None)
    raw = tokenizer.case is not None and not tokenizer.lossless
    pairs = [tokenizer.encode_counted(text) if raw else (tokenizer.encode(text), None) for text in texts]
    ids = [[BOS, *document] for document, _ in pairs]
    tokens = _flat(ids)
    counts = (
        _flat([[0, *c.tolist()] for _, c in pairs if c is not None]) if raw else tokenizer.byte_counts(tokens)
    )
    if tokenizer.lossless:
        assert int(counts.sum(dtype=np.int64)) == sum(map(len, texts)), "every byte is under one token"
    return Encoded(side, tokens, [len(i) for i in ids], counts)


def _flat(rows: list[list[int]]) -> Tokens:
    return np.array(list(chain.from_iterable(rows)), dtype=np.uint16)


def encoded(
    corpus: Iterable[tuple[Side, bytes]], model: Path, tokenizer: Tokenizer, workers: int
) -> Iterator[Encoded]:
    """All chunks in order, encoded by as many processes; a few chunks a process are in flight."""
    if workers == 1:
        yield from (_encode(tokenizer, side, texts) for side, texts in _chunks(corpus))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(model,)) as pool:
        flying: deque[Future[Encoded]] = deque()
        try:
            for side, texts in _chunks(corpus):
                flying.append(pool.submit(_work, side, texts))
                if len(flying) > 3 * workers:
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()


def _chunks(corpus: Iterable[tuple[Side, bytes]]) -> Iterator[tuple[Side, list[bytes]]]:
    side: Side = "validation"
    texts: list[bytes] = []
    size = 0
    for next_side, text in corpus:
        if texts and (next_side != side or size >= CHUNK_BYTES or len(texts) >= CHUNK_DOCUMENTS):
            yield side, texts
            texts, size = [], 0
        side = next_side
        texts.append(text)
        size += len(text)
    if texts:
        yield side, texts
