"""A stage is a function (sections, upstream artifacts, out dir, runtime) -> metrics, run at most once.

What decides the result is hashed: the stage's name and version, its config sections, the content
digests of its inputs, the seed. Where it runs is not. A stage publishes its directory by rename, so a
crash publishes nothing and a race costs work but not correctness; on an object store, which cannot
rename, `record.json` is written last and is the commit mark.

Bytes flow down, not recipes: an input enters an identity by the digest of its files, so a re-packed
equal artifact is scored once and forty quantizers on one checkpoint train once. `version` is raised by
hand when a stage's meaning changes; source code is not hashed, a log line must not rerun a week.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pgolf.errors import StoreError
from pgolf.formats.shards import SHARD_FILE
from pgolf.runtime import Runtime
from pgolf.section import Section, canonical, digest_of
from pgolf.watch import Watch

Metrics = dict[str, float | int]
RECORD = "record.json"
KEY_CHARS = 16


@dataclass(frozen=True)
class Artifact:
    """A published stage directory: where it lies, what its files hash to, what was measured."""

    path: Path
    digest: str
    metrics: Metrics = field(default_factory=dict)
    key: str = ""
    seconds: float = 0.0
    cached: bool = False

    @staticmethod
    def of(path: Path) -> "Artifact":
        """A directory that no stage made (given files), identified by its content."""
        return Artifact(path, digest_of(_inventory(path)))


class Store:
    """`<root>/<stage>/<key>/`, safe for many writers; `root` is a directory or any fsspec URL.

    Raises:
        StoreError: if `root` cannot be a store. Nothing is created before something is published.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        remedy = "give --store another place"
        try:
            self.fs, self.base = fsspec.core.url_to_fs(self.root)
        except (ValueError, ImportError) as error:  # an unknown protocol; one whose package is missing
            raise StoreError("a store is a directory or an fsspec URL", f"{root}: {error}", remedy) from None
        self.local = isinstance(self.fs, LocalFileSystem)
        if self.local:
            self.base = str(Path(self.base).absolute())
            nearest = next(p for p in (Path(self.base), *Path(self.base).parents) if p.exists())
            if not nearest.is_dir():
                raise StoreError("a store is a directory, existing or new", f"{nearest} is a file", remedy)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.root if not self.local else self.base,)

    @property
    def directory(self) -> Path:
        """A local directory for working files and for copies of what a remote store holds."""
        if self.local:
            return Path(self.base)
        name = hashlib.sha256(self.root.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"pgolf-store-{name}"

    def find(self, stage: str, key: str) -> Artifact | None:
        """The published entry, its files checked against their recorded sizes; None if there is none.

        Raises:
            StoreError: if the entry is damaged (a truncated or missing file, an unreadable record).
        """
        home = str(PurePosixPath(self.base, stage, key))
        remedy = f"delete {home}; it will be made again"
        if not self.fs.exists(f"{home}/{RECORD}"):
            seen = self.local and Path(home).exists()
            if not self.fs.exists(f"{home}/{RECORD}"):  # else it was published between the two looks
                if seen:  # one rename publishes a directory with its record in it
                    raise StoreError("a store entry has a readable record.json", f"{home}: none", remedy)
                return None
        local = Path(home) if self.local else self._fetched(home, stage, key)
        try:
            record = json.loads((local / RECORD).read_text())
            sizes = {name: int(size) for name, (size, _) in record["files"].items()}
            found = Artifact(local, record["digest"], record["metrics"], key, record["seconds"], cached=True)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError("a store entry has a readable record.json", home, remedy) from None
        for name, size in sizes.items():
            file = local / name
            if not file.is_file() or file.stat().st_size != size:
                raise StoreError(f"{name} of a store entry has the {size} bytes it was published with",
                                 f"{file} ({file.stat().st_size if file.exists() else 'missing'})", remedy)  # fmt: skip
        return found

    def opened(self, stage: str, key: str) -> list[str] | None:
        """Names of the token shards that were opened to make an entry; None if nobody noted them."""
        try:
            record = json.loads(self.fs.cat_file(str(PurePosixPath(self.base, stage, key, RECORD))))
            return list(record["opened"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def publish(self, stage: str, key: str, out: Path) -> None:
        """Make `out` the entry, whole or not at all; an equal entry published first stays."""
        home = str(PurePosixPath(self.base, stage, key))
        if not self.local:
            if self.fs.exists(f"{home}/{RECORD}"):
                return
            for file in sorted(out.rglob("*"), key=lambda f: f.name == RECORD):
                if file.is_file():
                    self.fs.makedirs(str(PurePosixPath(home)), exist_ok=True)
                    self.fs.put_file(str(file), f"{home}/{file.relative_to(out).as_posix()}")
            return
        Path(home).parent.mkdir(parents=True, exist_ok=True)
        try:
            out.rename(home)
        except OSError:
            if not Path(home, RECORD).exists():  # else another writer published this key first
                raise

    def workspace(self) -> tempfile.TemporaryDirectory[str]:
        """A scratch directory on the store's own filesystem, so that publishing is one rename."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=self.directory, prefix=".work-")

    def _fetched(self, home: str, stage: str, key: str) -> Path:
        local = self.directory / stage / key
        if not (local / RECORD).exists():
            with self.workspace() as work:
                self.fs.get(home, f"{work}/copy", recursive=True)
                local.parent.mkdir(parents=True, exist_ok=True)
                try:
                    Path(work, "copy").rename(local)
                except OSError:
                    if not (local / RECORD).exists():
                        raise
        return local


@dataclass(frozen=True)
class Stage:
    """A named step. `run(*inputs, out=Path, runtime=Runtime, **sections) -> metrics`.

    A collective stage runs on every rank of the gang: rank 0 publishes, and all find it. Any other runs on
    rank 0.
    """

    name: str
    version: int
    run: Callable[..., Mapping[str, float]]
    collective: bool = False

    def identity(
        self, sections: Mapping[str, Section], inputs: tuple[Artifact, ...], seed: int | None
    ) -> dict[str, Any]:
        identity: dict[str, Any] = {
            "stage": self.name,
            "version": self.version,
            "sections": {name: section.plain() for name, section in sections.items()},
            "inputs": [artifact.digest for artifact in inputs],
        }
        return identity if seed is None else {**identity, "seed": seed}

    def __call__(
        self, store: Store, *inputs: Artifact, runtime: Runtime, seed: int | None = None, **sections: Section
    ) -> Artifact:
        """The artifact of this work: from the store if it was done before, else done and published."""
        identity = self.identity(sections, inputs, seed)
        key = digest_of(identity)[:KEY_CHARS]
        found = store.find(self.name, key) if runtime.leads or not self.collective else None
        if self.collective and runtime.agree(found is not None) and not runtime.leads:
            found = store.find(self.name, key)
        if found is not None:
            return found
        assert runtime.leads or self.collective, "rank 0 published this before another rank asked for it"
        seeded = {} if seed is None else {"seed": seed}
        with store.workspace() as work:
            out = Path(work) / "out"
            out.mkdir()
            began, watch = time.perf_counter(), Watch(SHARD_FILE, online=True)
            with watch.during(self.name):
                metrics = self.run(*[i.path for i in inputs], out=out, runtime=runtime, **seeded, **sections)
            own = {Path(file).name for _, file in watch.opened}
            opened = set().union(*runtime.gather(own)) if self.collective else own
            if not runtime.leads:
                runtime.agree(None)  # until it is published
                return self._made(store, key)
            files = _inventory(out)
            record = {
                "identity": identity,
                "metrics": dict(metrics),
                "files": files,
                "digest": digest_of(files),
                "seconds": time.perf_counter() - began,
                "opened": sorted(opened),
            }
            canonical(record)
            (out / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True))
            store.publish(self.name, key, out)
        if self.collective:
            runtime.agree(None)
        return self._made(store, key)

    def _made(self, store: Store, key: str) -> Artifact:
        made = store.find(self.name, key)
        assert made is not None, "published just now"
        return replace(made, cached=False)


def _inventory(directory: Path) -> dict[str, list[Any]]:
    """{relative name: [size in bytes, SHA-256]} of every file below a directory."""
    return {
        file.relative_to(directory).as_posix(): [file.stat().st_size, sha256_of(file)]
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


def sha256_of(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def made_whole(target: Path, make: Callable[[Path], object]) -> None:
    """Have `make` build a file under another name, and give it its own only when it is whole.

    A process killed in between leaves nothing at `target`; of two that build it, the first one's stays.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as work:
        half, whole = Path(work) / target.name, Path(work) / "whole"
        make(half)
        shutil.copyfile(half, whole)  # a file of its own: the maker may still hold the other one open
        try:
            os.link(whole, target)
        except FileExistsError:
            pass
        except OSError:  # a filesystem without links
            whole.rename(target)


def link_or_copy(source: Path, target: Path) -> None:
    """Put an equal file at `target` without spending disk where the filesystem allows it."""
    try:
        os.link(source.resolve(), target)  # the file itself: a link to a link may point nowhere from here
    except OSError:
        shutil.copyfile(source, target)
