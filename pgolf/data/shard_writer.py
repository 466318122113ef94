"""A split's shards, written as documents come; each shard's count is filled in when it is known."""

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgolf.formats.shards import Tokens, shard_name, sidecar_name, write_shard


class ShardWriter:
    """Whole documents, none cut: a shard ends early, and one longer than a shard has a shard of its own."""

    def __init__(self, out: Path, split: str, shard_tokens: int, sidecar: bool) -> None:
        self.out, self.split, self.shard_tokens = out, split, shard_tokens
        self.names = (shard_name, sidecar_name) if sidecar else (shard_name,)
        self.shards = self.documents = self.tokens = self.bytes = 0
        self._open: list[io.BufferedRandom] = []
        self._here = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def add(self, tokens: Tokens, counts: Tokens | None) -> None:
        if self._open and self._here + len(tokens) > self.shard_tokens:
            self._close()
        if not self._open:
            for name in self.names:
                file = self.out / name(self.split, self.shards)
                write_shard(file, np.zeros(0, dtype=np.uint16))
                self._open.append(file.open("r+b"))
                self._open[-1].seek(0, os.SEEK_END)
            self.shards += 1
        for stream, values in zip(self._open, (tokens, counts), strict=False):
            assert values is not None, "a held-out document has counts"
            stream.write(np.ascontiguousarray(values, dtype="<u2").tobytes())
        self._here += len(tokens)
        self.documents += 1
        self.tokens += len(tokens)
        self.bytes += 0 if counts is None else int(counts.sum(dtype=np.int64))

    def report(self) -> dict[str, int]:
        found = {"documents": self.documents, "tokens": self.tokens, "shards": self.shards}
        return {**found, "bytes": self.bytes} if len(self.names) > 1 else found

    def _close(self) -> None:
        count: NDArray[np.int32] = np.array([self._here], dtype="<i4")
        for stream in self._open:
            stream.seek(8)
            stream.write(count.tobytes())
            stream.close()
        self._open, self._here = [], 0
