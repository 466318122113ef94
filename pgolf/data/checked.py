"""Shards under examination: read once, and what several laws want to know of them.

Nothing here judges. Files that are unsound themselves are left out of `values` and named in `broken`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece as spm
from numpy.typing import NDArray

from pgolf.data.directory import read_manifest
from pgolf.data.published import Split
from pgolf.data.shard_files import Shards, sidecar_beside
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, HEADER_WORDS, Tokens, read_shard

PART_TOKENS = 1 << 22  # about how many tokens are counted at a time


@dataclass
class Subject:
    """The files, read once, and what several rules want to know of them."""

    shards: Shards
    tokenizer: Tokenizer
    published: tuple[Split, ...]
    broken: dict[Path, str] = field(default_factory=dict)

    @cached_property
    def values(self) -> dict[Path, Tokens]:
        """The sound files' contents. The unsound ones are named in `broken`."""
        found = {}
        for file in (*self.shards.token_files, *self.shards.sidecars):
            try:
                found[file] = read_shard(file)
            except DataError as error:
                self.broken[file] = f"{error.rule}, not as in {error.given}"
                continue
            if np.fromfile(file, dtype="<i4", count=HEADER_WORDS)[3:].any():
                self.broken[file] = f"{file.name}: words 3 to 255 of its header are not 0"
        return found

    @cached_property
    def tokens(self) -> dict[Path, Tokens]:
        """The sound token shards, train first."""
        return {f: self.values[f] for f in self.shards.token_files if f in self.values}

    def split(self, name: str) -> dict[Path, Tokens]:
        files: list[Path] = getattr(self.shards, name)
        return {f: self.values[f] for f in files if f in self.values}

    @cached_property
    def starts(self) -> dict[Path, NDArray[np.int64]]:
        """Where documents begin in each sound token shard."""
        return {f: np.flatnonzero(t == BOS) for f, t in self.tokens.items()}

    @cached_property
    def tops(self) -> dict[Path, int]:
        """The largest token of each sound token shard."""
        return {f: int(t.max(initial=0)) for f, t in self.tokens.items()}

    @cached_property
    def countable(self) -> dict[Path, Tokens]:
        """The shards whose tokens all have a place in the tokenizer's tables."""
        return {f: t for f, t in self.tokens.items() if self.tops[f] < self.tokenizer.vocab_size}

    @cached_property
    def manifest(self) -> dict[str, Any] | None:
        return None if self.shards.directory is None else read_manifest(self.shards.directory)

    @cached_property
    def pairs(self) -> dict[Path, tuple[Tokens, Tokens]]:
        """Per held-out shard with a sound sidecar: its tokens and its counts."""
        held_out = {**self.split("select"), **self.split("validation")}
        return {
            f: (t, self.values[sidecar_beside(f)])
            for f, t in held_out.items()
            if sidecar_beside(f) in self.values
        }

    @cached_property
    def documents(self) -> dict[str, int]:
        return {
            name: sum(self.starts[f].size for f in self.split(name))
            for name in ("train", "select", "validation")
        }

    @cached_property
    def operators(self) -> NDArray[np.int64]:
        """Ids of case marks that are tokens of their own, and so stand for no text."""
        if self.tokenizer.case is None:
            return np.zeros(0, dtype=np.int64)
        sp = spm.SentencePieceProcessor(model_proto=self.tokenizer.model)
        ids = [sp.piece_to_id(mark) for mark in self.tokenizer.case.marks]
        return np.array([i for i in ids if i != sp.unk_id()], dtype=np.int64)

    @cached_property
    def recognized(self) -> Split | None:
        """The published validation split that this is, by its vocabulary and token count."""
        coded = self.tokenizer.case is not None and not self.tokenizer.lossless
        size = (self.tokenizer.vocab_size, coded, sum(map(len, self.split("validation").values())))
        return next((s for s in self.published if s.matches(*size)), None)

    def validation_counts(self) -> Iterator[Tokens]:
        """Bytes under every validation token in order, by sidecar, else by the tokenizer."""
        for file, tokens in self.split("validation").items():
            if file in self.pairs:
                yield self.pairs[file][1]
            else:
                yield from map(self.tokenizer.byte_counts, parts(tokens))


def parts(tokens: Tokens) -> Iterator[Tokens]:
    """A shard in parts of some million tokens that begin at documents (the first begins where it begins)."""
    begin = 0
    while begin < len(tokens):
        end = begin + PART_TOKENS
        while end < len(tokens) and not (near := np.flatnonzero(tokens[end : end + PART_TOKENS] == BOS)).size:
            end += PART_TOKENS
        end = end + int(near[0]) if end < len(tokens) else len(tokens)
        yield np.asarray(tokens[begin:end])
        begin = end


def document_hashes(s: "Subject", split: str) -> Iterator[bytes]:
    """Of each document's tokens, BOS first."""
    return map(document_hash, documents_of(s, split))


def documents_of(s: "Subject", split: str) -> Iterator[bytes]:
    """Each document's tokens as they are stored, BOS first; one that a shard breaks off goes on in the next."""
    held = b""
    for file, tokens in s.split(split).items():
        bounds = [*s.starts[file].tolist(), len(tokens)]
        held += np.asarray(tokens[: bounds[0]]).tobytes()
        for begin, end in pairwise(bounds):
            if held:
                yield held
            held = np.asarray(tokens[begin:end]).tobytes()
    if held:
        yield held


def document_hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def look_up_bytes(tokenizer: Tokenizer, tokens: Tokens) -> int:
    """What the challenge's look-up rule counts for a stream, whatever its pieces stand for.

    One byte for a byte token, the UTF-8 length of any other piece without one leading U+2581, which
    counts one more unless the token before is a control token.
    """
    sp = spm.SentencePieceProcessor(model_proto=tokenizer.model)
    base = np.zeros(2**16, dtype=np.int64)
    leads, boundary = np.zeros(2**16, dtype=bool), np.ones(2**16, dtype=bool)
    for v in range(sp.vocab_size()):
        if not (sp.is_control(v) or sp.is_unknown(v) or sp.is_unused(v)):
            piece = sp.id_to_piece(v)
            leads[v], boundary[v] = piece.startswith("▁") and not sp.is_byte(v), False
            base[v] = 1 if sp.is_byte(v) else len(piece.removeprefix("▁").encode())
    after = np.concatenate([[True], boundary[tokens[:-1]]])[: len(tokens)]
    return int(base[tokens].sum() + (leads[tokens] & ~after).sum())
