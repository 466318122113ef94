"""Where the tokens come from: the embedded corpus, or shards that are already on disk.

Both end in one directory that everything downstream reads: `tokenizer.model`, and per split token
shards with a byte sidecar beside each scored one.
"""

import glob
from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from pgolf.data.checked import parts
from pgolf.data.corpus import fingerprint, read_documents, stdlib_documents, write_documents
from pgolf.data.published import TOLERANCE, VARIANTS
from pgolf.data.shard_files import sidecar_beside
from pgolf.data.tokenizer import AnyTokenizer, SpBpe, Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, SPLITS, Tokens, read_shard, shard_name, sidecar_name, write_shard
from pgolf.runtime import Runtime
from pgolf.section import Section
from pgolf.stage import Artifact, Metrics, Stage, Store, digest_of, link_or_copy, sha256_of

TOKENIZER = "tokenizer.model"


class Source(Section):
    """What a data source must be able to do."""

    @abstractmethod
    def check(self) -> None:
        """Refuse what cannot work, before anything is written. Raises DataError."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What of this section decides a result; not where files lie."""

    @abstractmethod
    def build(self, store: Store, runtime: Runtime) -> list[tuple[str, Artifact]]:
        """The stages' artifacts by stage name, in order; the last is the token directory."""


class SplitFractions(Section):
    """What is identity of the corpus stage beside the documents themselves."""

    select_fraction: float = Field(0.02, gt=0, lt=0.5)
    validation_fraction: float = Field(0.02, gt=0, lt=0.5)


class PythonStdlib(Source):
    """The embedded corpus (pgolf.data.corpus) under a tokenizer trained on its training documents."""

    kind: Literal["python_stdlib"] = "python_stdlib"
    tokenizer: AnyTokenizer = SpBpe()
    split: SplitFractions = SplitFractions()

    @field_validator("tokenizer", mode="before")
    @classmethod
    def _once_the_only_kind(cls, given: Any) -> Any:
        """A tokenizer written without its kind is SpBpe, as it was when there was no other."""
        return {"kind": "sp_bpe", **given} if isinstance(given, Mapping) else given

    def check(self) -> None:
        stdlib_documents()

    def identity(self) -> dict[str, Any]:
        return self.plain()

    def build(self, store: Store, runtime: Runtime) -> list[tuple[str, Artifact]]:
        documents = stdlib_documents()
        given = Artifact(Path(), fingerprint(documents))
        corpus = CORPUS(store, given, runtime=runtime, split=self.split)
        tokens = TOKENIZE(store, corpus, runtime=runtime, tokenizer=self.tokenizer)
        return [("corpus", corpus), ("tokenize", tokens)]


class SelectTail(Section):
    """What is identity of the import stage beside the files themselves."""

    select_tokens: int = Field(1_048_576, ge=2)  # documents at the end of the last training shard


class Shards(Source):
    """Shards on disk in the challenge's format, with the SentencePiece model they were written with.

    Byte sidecars beside the validation shards are the denominator, once held against the tokens: all of
    them or none, exact where the tokens tell the bytes. A normalizing case coding does not tell them (the
    published sidecar counts white space before it was squeezed: 894 bytes more in 151 MB), so there the total
    may be off by `published.TOLERANCE`. Without sidecars the bytes are those that the tokens stand for.

    The select split is cut from the end of the last training shard, at a document start, and is not
    trained on. Paths are where the files lie, not what they are: identity is their content.
    """

    kind: Literal["shards"] = "shards"
    train: str  # path or glob
    validation: str  # path or glob
    tokenizer: str  # path of the .model file
    vocab_size: int | None = None  # of the tokenizer, for predictions where it is not at hand
    select: SelectTail = SelectTail()

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "select": self.select.plain()}

    def check(self) -> None:
        if not Path(self.tokenizer).exists():
            raise DataError("data.tokenizer names a SentencePiece .model that exists", self.tokenizer,
                            _way_to(self.tokenizer))  # fmt: skip
        tokenizer = Tokenizer.load(Path(self.tokenizer))
        files = {"train": self._files("train"), "validation": self._files("validation")}
        for shards in files.values():
            for i, shard in enumerate(shards):
                tokenizer.fits(read_shard(shard), shard.name, first=i == 0)
        _sidecars(files["validation"])
        _disjoint(files["train"], files["validation"])
        _select_start(read_shard(files["train"][-1]), self.select, files["train"][-1])

    def build(self, store: Store, runtime: Runtime) -> list[tuple[str, Artifact]]:
        train, validation = self._files("train"), self._files("validation")
        sidecars = _sidecars(validation)
        files = [Path(self.tokenizer), *train, *validation, *sidecars]
        splits = ["", *["train"] * len(train), *["validation"] * len(validation), *["bytes"] * len(sidecars)]
        inputs = [
            Artifact(f, digest_of([split, _content(f)])) for f, split in zip(files, splits, strict=True)
        ]
        stage = Stage("shards", 2, _import_shards(splits))
        return [("shards", stage(store, *inputs, runtime=runtime, select=self.select))]

    def _files(self, split: Literal["train", "validation"]) -> list[Path]:
        pattern = getattr(self, split)
        found = [Path(f) for f in sorted(glob.glob(pattern)) if "_bytes_" not in Path(f).name]  # noqa: PTH207 (absolute globs)
        if not found:
            raise DataError(f"data.{split} names shards that exist", pattern, _way_to(pattern))
        return found


def _sidecars(validation: list[Path]) -> list[Path]:
    """The byte sidecars beside validation shards: one for each, or none at all."""
    beside = {shard: sidecar_beside(shard) for shard in validation}
    found = [sidecar for sidecar in beside.values() if sidecar.is_file()]
    for shard, sidecar in beside.items():
        if found and not sidecar.is_file():
            raise DataError("all validation shards have a byte sidecar beside them, or none", f"no {sidecar}",
                            "fetch or build it again, or move the others away")  # fmt: skip
        if found and (given := len(read_shard(sidecar))) != (tokens := len(read_shard(shard))):
            raise DataError("a byte sidecar has one count for each token", f"{sidecar}: {given} for {tokens}",
                            "fetch or build the shards again")  # fmt: skip
    return found


def _way_to(missing: str) -> str:
    """How to have files of this path: fetched, if its folder is called as a published variant is."""
    folder = Path(missing).parent
    if folder.name in VARIANTS:
        return f"`pgolf data fetch {folder.name} --out {folder}`, or check the path"
    return "check the path or the glob; `pgolf data fetch` and `pgolf data build` make shards"


def _content(file: Path) -> str:
    """SHA-256 of a file, computed once a process for the file as it is."""
    stat = file.stat()
    return _hashed(file.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _hashed(file: Path, size: int, mtime_ns: int) -> str:
    return sha256_of(file)


def _disjoint(train: list[Path], validation: list[Path]) -> None:
    seen = {_content(f): f for f in train}
    for shard in validation:
        if (twin := seen.get(_content(shard))) is not None:
            raise DataError("no validation shard is among the training shards", f"{shard} = {twin}",
                            "give disjoint shards")  # fmt: skip


DataSource = Annotated[PythonStdlib | Shards, Field(discriminator="kind")]


def _make_corpus(given: Path, *, out: Path, runtime: Runtime, split: SplitFractions) -> Metrics:
    return write_documents(stdlib_documents(), out, split.select_fraction, split.validation_fraction)


def _tokenize(corpus: Path, *, out: Path, runtime: Runtime, tokenizer: AnyTokenizer) -> Metrics:
    model = tokenizer.train(read_documents(corpus, "train"))
    (out / TOKENIZER).write_bytes(model.model)
    metrics: Metrics = {"vocab_size": model.vocab_size, "tokenizer_bytes": len(model.model)}
    for split in SPLITS:
        metrics |= _write_split(model, out, split, model.stream(read_documents(corpus, split)))
    return metrics


def _import_shards(splits: list[str]):  # type: ignore[no-untyped-def]
    """A stage body that links given shards into the store and makes what they lack."""

    def run(model_file: Path, *shards: Path, out: Path, runtime: Runtime, select: SelectTail) -> Metrics:
        model = Tokenizer.load(model_file)
        for i, shard in enumerate(shards):
            first = splits[i + 1] != splits[i]  # splits[0] is the model's
            if splits[i + 1] == "bytes":
                break
            model.fits(read_shard(shard), shard.name, first=first)
        link_or_copy(model_file, out / TOKENIZER)
        of = {
            split: [s for s, name in zip(shards, splits[1:], strict=True) if name == split]
            for split in (*SPLITS, "bytes")
        }
        train, validation = of["train"], of["validation"]
        _disjoint(train, validation)
        for i, shard in enumerate(train[:-1]):
            link_or_copy(shard, out / shard_name("train", i))
        last = read_shard(train[-1])
        cut = _select_start(last, select, train[-1])
        write_shard(out / shard_name("train", len(train) - 1), last[:cut])
        metrics: Metrics = {"vocab_size": model.vocab_size, "tokenizer_bytes": len(model.model)}
        metrics |= _write_split(model, out, "select", np.asarray(last[cut:]))
        counts = _validation_counts(model, validation, of["bytes"])
        for i, (shard, counted) in enumerate(zip(validation, counts, strict=True)):
            link_or_copy(shard, out / shard_name("validation", i))
            write_shard(out / sidecar_name("validation", i), counted)
        return metrics

    return run


def _validation_counts(model: Tokenizer, shards: list[Path], sidecars: list[Path]) -> list[Tokens]:
    """Bytes under each token of every shard, as one stream: a document may go on in the next shard.

    Raises:
        DataError: if given sidecars count another text than the tokens stand for.
    """
    tokens = [np.asarray(read_shard(shard)) for shard in shards]
    whole = np.concatenate(tokens)
    expected = np.concatenate([model.byte_counts(part) for part in parts(whole)])
    if not sidecars:
        return np.split(expected, np.cumsum([len(t) for t in tokens])[:-1])
    given = [np.asarray(read_shard(sidecar)) for sidecar in sidecars]
    counts = np.concatenate(given)
    bos, total, told = (int(c.sum(dtype=np.int64)) for c in (counts[whole == BOS], counts, expected))
    exact = model.lossless or model.case is None
    wrong = (counts != expected).any() if exact else abs(total - told) > TOLERANCE * told
    if bos or wrong:
        raise DataError("byte sidecars count the text that the tokens stand for",
                        f"{total:,} bytes in {sidecars[0].parent} ({bos:,} under BOS); the tokens say {told:,}",
                        "build with a lossless tokenizer, or move the sidecars away")  # fmt: skip
    return given


def _select_start(tokens: np.ndarray, select: SelectTail, shard: Path) -> int:
    """Where the select documents begin: the first BOS within the last `select_tokens` tokens."""
    tail = max(len(tokens) - select.select_tokens, 1)
    starts = np.flatnonzero(np.asarray(tokens[tail:]) == BOS)
    if len(starts) == 0:
        raise DataError("a document begins in the part of the last training shard set aside for select",
                        f"{shard}: none in its last {select.select_tokens} tokens",
                        "raise data.select.select_tokens or give a larger shard")  # fmt: skip
    return tail + int(starts[0])


def _write_split(model: Tokenizer, out: Path, split: str, tokens: np.ndarray) -> Metrics:
    counts = model.byte_counts(tokens)
    write_shard(out / shard_name(split), tokens)
    write_shard(out / sidecar_name(split), counts)
    return {f"{split}_tokens": len(tokens), f"{split}_bytes": int(counts.sum(dtype=np.int64))}


CORPUS = Stage("corpus", 1, _make_corpus)
TOKENIZE = Stage("tokenize", 1, _tokenize)
