"""The embedded corpus: the Python standard library's own documentation and sources.

Real text that is on every machine, so that one command works without a download. A document is one
help topic or one module's source. Folders that distributions patch, compile or leave out (tests,
packaging, Tk, build configuration, generated tables) are not read, so that the same Python version
gives the same corpus; its fingerprint (SHA-256 over ids and contents) says whether it did.

The split is by document and by hash, three ways. The search ranks on `select`; `validation` is scored
once, for finalists, so that nobody tunes on the number that is reported.
"""

import hashlib
import json
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pgolf.errors import DataError
from pgolf.formats.shards import SPLITS
from pgolf.section import digest_of

FOLDERS = (
    "asyncio", "collections", "concurrent", "email", "html", "http", "importlib", "json", "logging",
    "multiprocessing", "pydoc_data", "re", "sqlite3", "tomllib", "unittest", "urllib", "wsgiref", "xml",
    "xmlrpc", "zoneinfo",
)  # fmt: skip
PATCHED = ("site.py", "sysconfig.py", "pydoc_data/topics.py")  # by distributions; topics are read apart
SMALLEST_BYTES = 64  # shorter files are empty package marks


@dataclass(frozen=True)
class Document:
    """One document: a stable id and its bytes."""

    id: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def stdlib_documents(root: Path | None = None) -> list[Document]:
    """Help topics and module sources, each content once, ordered by hash (so neighbours are unrelated).

    Raises:
        DataError: if this Python was installed without its standard library's sources.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    found = {d.sha256: d for d in [*_topics(), *_sources(root)]}
    if len(found) < 100:
        raise DataError(
            "the embedded corpus is read from the standard library's .py files",
            f"{root}: {len(found)} documents",
            "install Python with its sources, or use data.kind=shards",
        )
    return [found[key] for key in sorted(found)]


def fingerprint(documents: list[Document]) -> str:
    """SHA-256 (hex) over the ids and contents of a corpus."""
    return digest_of(sorted([d.id, d.sha256] for d in documents))


def split_of(sha256: str, select_fraction: float, validation_fraction: float) -> str:
    """The split of a document, decided by its own hash and nothing else."""
    place = int(sha256[:13], 16) / 16**13
    if place < validation_fraction:
        return "validation"
    return "select" if place < validation_fraction + select_fraction else "train"


def write_documents(
    documents: list[Document], out: Path, select_fraction: float, validation_fraction: float
) -> dict[str, float | int]:
    """Write `<split>.jsonl` ({id, sha256, text}) per split; returns document and byte counts.

    Raises:
        DataError: if a split came out empty.
    """
    metrics: dict[str, float | int] = {}
    for split in SPLITS:
        chosen = [d for d in documents if split_of(d.sha256, select_fraction, validation_fraction) == split]
        if not chosen:
            raise DataError(f"the {split} split has a document", f"{len(documents)} documents in all",
                            "give more text, or larger fractions")  # fmt: skip
        with (out / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n") as stream:
            for d in chosen:
                line = {"id": d.id, "sha256": d.sha256, "text": d.content.decode("utf-8")}
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        metrics[f"{split}_documents"] = len(chosen)
        metrics[f"{split}_bytes"] = sum(len(d.content) for d in chosen)
    return metrics


def read_documents(directory: Path, split: str) -> Iterator[bytes]:
    """The contents of a split's documents, in order."""
    with (directory / f"{split}.jsonl").open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield json.loads(line)["text"].encode()


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for name, text in topics.items():
        yield Document(f"topic/{name}", text.encode())


def _sources(root: Path) -> Iterator[Document]:
    files = [*root.glob("*.py"), *(f for folder in FOLDERS for f in (root / folder).rglob("*.py"))]
    for file in sorted(files):
        name = file.relative_to(root).as_posix()
        if name in PATCHED or name.partition("/")[0].removesuffix(".py") not in sys.stdlib_module_names:
            continue  # what a distribution adds beside the library is not the library
        content = file.read_bytes()
        try:
            content.decode("utf-8")
        except UnicodeDecodeError:
            continue  # a handful of modules declare another encoding; text is UTF-8 here
        if len(content) >= SMALLEST_BYTES:
            yield Document(f"source/{name}", content)
