"""Any text to shards: split by document, a tokenizer trained on the training rows, byte sidecars, a manifest.

Two orders. By *hash* (the default) documents are sorted by SHA-256 and validation is the first of them, so
the same texts give the same shards however they lie in files, neighbours are unrelated, and copies of a text
fall on one side together. As *given* (for lists that are shuffled already, like the challenge's) validation
is the first documents of the list, and a training document that is a copy of a held-out one is left out.

In both orders no training document may have the tokens of a held-out one: under a tokenizer that normalizes,
texts that differ only in what it folds together are the same. Such documents are left out and counted.

The corpus passes through a spill on the output's disk (as large as the text), so it may be larger than
memory. Shards hold whole documents: one ends early rather than cut a document, and a document longer than
`shard_tokens` has a shard of its own. Everything is written in a hidden directory beside `out` that becomes
`out` by one rename.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import cpu_count
from pathlib import Path
from typing import Any

import sentencepiece as spm

from pgolf.data.directory import (
    TOKENIZER_FILE,
    Watch,
    alone,
    nearest_directory,
    read_manifest,
    unwatched,
    write_manifest,
)
from pgolf.data.documents import Tally, documents, text_files
from pgolf.data.encoding import encoded
from pgolf.data.shard_writer import ShardWriter
from pgolf.data.spill import Side, Spill, Split, at_least
from pgolf.data.tokenizer import AnyTokenizer, Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS

SHARD_TOKENS = 100_000_000  # the challenge's export
TOKENIZER_BYTES = 64_000_000  # of training text; SentencePiece needs about five times this in memory
MOST_TOKENS = 2**31 - 1  # what a shard's header can say


@dataclass(frozen=True)
class Build:
    """What to build."""

    inputs: list[Path]
    tokenizer: AnyTokenizer | Path  # to be trained, or a model file
    split: Split
    text_field: str = "text"
    separator: str | None = None
    shard_tokens: int = SHARD_TOKENS
    tokenizer_bytes: int = TOKENIZER_BYTES
    workers: int = field(default_factory=cpu_count)

    def __post_init__(self) -> None:
        at_least("--shard-tokens", 1, self.shard_tokens, MOST_TOKENS)
        at_least("--tokenizer-bytes", 1, self.tokenizer_bytes)
        at_least("--workers", 1, self.workers)
        if self.separator == "":
            raise DataError("a separator is a text", "''", "leave --separator out: a file is one document")


def build(asked: Build, out: Path, watch: Watch = unwatched) -> dict[str, Any]:
    """Build into `out`, a new or empty directory, and return its manifest.

    Raises:
        DataError: for input that is not text, too little of it, or an `out` with something in it.
    """
    nearest_directory(out)
    if out.exists() and any(out.iterdir()):
        raise DataError("shards are written into a new or empty directory, never over others",
                        f"{out} holds {next(out.iterdir()).name}", "give another --out")  # fmt: skip
    if out.is_mount():
        raise DataError("shards appear in --out by one rename, which a mount point does not take", str(out),
                        f"--out {out / 'shards'}")  # fmt: skip
    tally = Tally()
    files = text_files(asked.inputs, tally)
    given = None if not isinstance(asked.tokenizer, Path) else _loaded(asked.tokenizer)
    work = out.absolute().parent / f".{out.name}.building"
    with alone(work):
        spill, made = work / "spill", work / "shards"
        try:
            for folder in (spill, made):
                shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
                folder.mkdir()
            corpus = Spill(spill, asked.split, _watched_reading(files, tally, asked, watch))
            corpus.check()
            tokenizer = given or _trained(asked, corpus, watch)
            (made / TOKENIZER_FILE).write_bytes(tokenizer.model)
            report = _write_shards(asked, corpus, tokenizer, made, watch)
            content = {
                "made_by": "build",
                "source": {"inputs": [str(p) for p in asked.inputs], **tally.plain()},
                "split": corpus.rule,
                "tokenizer": {
                    "file": TOKENIZER_FILE,
                    "recipe": None if isinstance(asked.tokenizer, Path) else asked.tokenizer.plain(),
                    "vocab_size": tokenizer.vocab_size,
                    "lossless": tokenizer.lossless,
                },
                **report,
            }
            write_manifest(made, content, list(made.iterdir()))
            made.rename(out)
        finally:
            shutil.rmtree(spill, ignore_errors=True)
            shutil.rmtree(made, ignore_errors=True)
    manifest = read_manifest(out)
    assert manifest is not None, "published just now"
    return manifest


def _loaded(file: Path) -> Tokenizer:
    """A given model, if shards can be written with it."""
    tokenizer = Tokenizer.load(file)
    remedy = "train one: --tokenizer sp_bpe:8192"
    if (bos := spm.SentencePieceProcessor(model_proto=tokenizer.model).bos_id()) != BOS:
        raise DataError(f"the tokenizer of shards has BOS at id {BOS}", f"{file}: {bos}", remedy)
    if tokenizer.vocab_size > 2**16:
        raise DataError("tokens of shards have 16 bits", f"{file}: {tokenizer.vocab_size} of them", remedy)
    return tokenizer


def _watched_reading(files: list[Path], tally: Tally, asked: Build, watch: Watch) -> Iterator[bytes]:
    total = sum(f.stat().st_size for f in files)
    for document in documents(files, tally, asked.text_field, asked.separator):
        watch("reading", tally.bytes, total)
        yield document


def _trained(asked: Build, corpus: Spill, watch: Watch) -> Tokenizer:
    """The tokenizer, from training documents alone, and no more of them than `tokenizer_bytes`."""
    assert not isinstance(asked.tokenizer, Path)
    used = 0

    def texts() -> Iterator[bytes]:
        nonlocal used
        for side, document in corpus:
            if side == "train":
                used += len(document)
                if used > asked.tokenizer_bytes:
                    return
                watch("training the tokenizer", used, min(corpus.bytes["train"], asked.tokenizer_bytes))
                yield document

    tokenizer = asked.tokenizer.train(texts())
    if tokenizer.vocab_size < asked.tokenizer.vocab_size:
        raise DataError(f"there is text enough for a vocabulary of {asked.tokenizer.vocab_size}",
                        f"{used:,} bytes of training text taught {tokenizer.vocab_size} tokens",
                        "give more text, or ask for a smaller vocabulary")  # fmt: skip
    return tokenizer


def _write_shards(
    asked: Build, corpus: Spill, tokenizer: Tokenizer, out: Path, watch: Watch
) -> dict[str, Any]:
    """Write every side's shards; the report of them for the manifest."""
    held_out: dict[bytes, Side] = {}
    blank = same = done = 0
    total = sum(corpus.documents.values())
    with ExitStack() as stack:
        writers = {
            side: stack.enter_context(ShardWriter(out, side, asked.shard_tokens, side != "train"))
            for side in corpus.documents
        }
        for chunk in encoded(corpus, out / TOKENIZER_FILE, tokenizer, asked.workers):
            for tokens, counts in chunk.documents():
                done += 1
                key = hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()
                if len(tokens) == 1:
                    blank += 1  # nothing but what a normalizing tokenizer drops
                elif held_out.get(key, chunk.side) != chunk.side:
                    same += 1
                else:
                    if chunk.side != "train":
                        held_out[key] = chunk.side
                    writers[chunk.side].add(tokens, counts)
            watch("encoding", done, total)
    for side, writer in writers.items():
        if writer.documents == 0:
            raise DataError("every split has a document", f"{side}: none that the tokenizer sees anything in",
                            "give more text")  # fmt: skip
    return {
        "splits": {side: writer.report() for side, writer in writers.items()},
        "left_out": {"blank_to_the_tokenizer": blank, "same_tokens_as_held_out": same},
    }
