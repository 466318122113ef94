"""Data sets that make a score better than it is: denominators and splits, built of real text by real tokenizers."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import sentencepiece as spm

from pgolf.certify.dossier import Dossier
from pgolf.data.case_ops import CaseOps
from pgolf.data.checked import look_up_bytes
from pgolf.data.directory import write_manifest
from pgolf.data.shard_files import sidecar_beside
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.data.tokenizer import Tokenizer
from pgolf.formats.shards import BOS, read_shard, shard_name, write_shard
from tests.cheats.zoo import cheat

TEXTS = [
    f"The parcel number {i} was sent to Street {i * 7} on day {i % 5} of May, and came back in June with {i * i} "
    f"stamps of {i % 11} kinds, because Number {i + 3} of the Street is no house but a tree.".encode()
    for i in range(60)
]
TRAIN, VALIDATION = TEXTS[:40], TEXTS[40:]
TRAIN_SHARD, SHARD = shard_name("train"), shard_name("validation")


@cache
def plain() -> Tokenizer:
    return SpBpe(vocab_size=320).train(TEXTS)


@cache
def coded() -> Tokenizer:
    return CaseOps(base=SpOfficial(vocab_size=320)).train(TEXTS)


def lay(folder: Path, train: Iterable[bytes] = TRAIN, validation: Iterable[bytes] = VALIDATION) -> Path:
    """A sound data set of these documents, by the plain tokenizer."""
    tokenizer = plain()
    (folder / "tokenizer.model").write_bytes(tokenizer.model)
    for name, texts in ((TRAIN_SHARD, train), (SHARD, validation)):
        ids = tokenizer.stream(texts)
        write_shard(folder / name, ids)
        write_shard(sidecar_beside(folder / name), tokenizer.byte_counts(ids))
    return folder


def recount(folder: Path, counts: np.ndarray) -> Dossier:
    write_shard(sidecar_beside(folder / SHARD), counts.astype(np.uint16))
    return Dossier(tokens=folder)


@cheat("L8", like="PR 1734, 1804: the table of bytes had the space, and the sum had it again")
def leading_space_counted_twice(folder: Path) -> Dossier:
    """One byte more for every piece that begins with a space."""
    lay(folder)
    ids = np.asarray(read_shard(folder / SHARD))
    sp = spm.SentencePieceProcessor(model_proto=plain().model)
    leads = np.array([sp.id_to_piece(i).startswith("▁") for i in range(sp.vocab_size())])
    return recount(folder, plain().byte_counts(ids) + leads[ids])


@cheat("L8", "X2", like="issue 897, PR 755, 1184")
def space_that_falls_to_bytes(folder: Path) -> Dossier:
    """The tokenizer has no piece for U+2581, and a space before an unknown word counts three bytes."""
    given = without_space(plain().model)
    sp = spm.SentencePieceProcessor(model_proto=given)
    (folder / "tokenizer.model").write_bytes(given)
    odd = [text.replace(b" ", b" ~") for text in VALIDATION]
    ids = np.array([i for text in odd for i in (BOS, *sp.encode(text.decode()))], dtype=np.uint16)
    base = [
        1 if sp.is_byte(i) else len(sp.id_to_piece(i).replace("▁", " ").encode())
        for i in range(sp.vocab_size())
    ]
    counts = np.where(ids == BOS, 0, np.array(base)[ids])
    write_shard(folder / TRAIN_SHARD, ids[::-1].copy())
    write_shard(folder / SHARD, ids)
    return recount(folder, counts)


def without_space(model: bytes) -> bytes:
    """The same model with another piece where U+2581 alone was one."""
    field = b"\n\x03" + "▁".encode() + b"\x15"  # protobuf: piece = 1, score = 2
    assert model.count(field) == 1
    return model.replace(field, b"\n\x03" + "☃".encode() + b"\x15")


@cheat("L8", like="seed-2071: flags that fell back to the look-up table")
def case_operators_counted_as_text(folder: Path) -> Dossier:
    """Operators of the case coding are private-use characters, and count three bytes each."""
    tokenizer = coded()
    (folder / "tokenizer.model").write_bytes(tokenizer.model)
    ids = tokenizer.stream(VALIDATION)
    counts = np.array([look_up_bytes(tokenizer, ids[: i + 1]) for i in range(len(ids))])
    write_shard(folder / TRAIN_SHARD, tokenizer.stream(TRAIN))
    write_shard(folder / SHARD, ids)
    return recount(folder, np.diff(counts, prepend=0))


@cheat("L8", like="bytes moved to where few are scored")
def bytes_moved_between_documents(folder: Path) -> Dossier:
    """The sum is right, and one document pays for another."""
    lay(folder)
    counts = plain().byte_counts(np.asarray(read_shard(folder / SHARD))).astype(np.int64)
    counts[3], counts[-2] = counts[3] + 1, counts[-2] - 1
    return recount(folder, counts)


@cheat("L10", like="PR 2127 and 14 others")
def validation_documents_in_training(folder: Path) -> Dossier:
    """Training begins with documents that validation has."""
    return Dossier(tokens=lay(folder, train=[*TRAIN, *VALIDATION[:5]]))


@cheat("L10", like="documents joined before they were split")
def validation_passages_in_training(folder: Path) -> Dossier:
    """Whole validation texts inside longer training documents: no document is the same, the text is."""
    return Dossier(
        tokens=lay(folder, train=[*TRAIN, *(b"Again: " + text + b" Amen." for text in VALIDATION)])
    )


@cheat("L11", like="a set of shards that was edited after it was built")
def shards_that_the_manifest_does_not_know(folder: Path) -> Dossier:
    """A shard was exchanged after the manifest was written."""
    lay(folder)
    write_manifest(folder, {"made": "by hand"}, [folder / TRAIN_SHARD, folder / SHARD])
    ids = np.asarray(read_shard(folder / TRAIN_SHARD))
    write_shard(folder / TRAIN_SHARD, ids[: len(ids) // 2].copy())
    return Dossier(tokens=folder)


@cheat("L9", like="a subset labelled full (issue 1872)")
def a_part_of_the_split(folder: Path) -> Dossier:
    """Fewer targets are reported than the shards hold."""
    from pgolf.certify.dossier import Reported

    lay(folder)
    return Dossier(tokens=folder, reported=Reported(tokens=len(read_shard(folder / SHARD)) - 50))
