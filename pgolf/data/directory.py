"""A directory of shards: its manifest, its lock, and how the filling of it is watched.

`manifest.json` says where the files came from, and the size and SHA-256 of each. It is written last, so a
directory that has one is whole. Shards that were fetched or built are never written over, and two commands
never write into one directory at the same time.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pgolf.errors import DataError

MANIFEST = "manifest.json"
TOKENIZER_FILE = "tokenizer.model"  # whatever it is called where it comes from, so that a recipe can name it
LAYOUT = 1  # of the manifest itself

Watch = Callable[[str, int, int], None]  # (activity, done, total); total 0: not known


def unwatched(activity: str, done: int, total: int) -> None:
    """The default watch: nobody is looking."""


def write_manifest(directory: Path, content: dict[str, Any], files: list[Path]) -> None:
    """Write the manifest of `files` (all in `directory`) with `content` beside them, whole or not at all."""
    listed = {f.name: {"bytes": f.stat().st_size, "sha256": checksum(f)} for f in sorted(files)}
    whole = {"layout": LAYOUT, **content, "files": listed}
    half = directory / f".{MANIFEST}.partial"
    half.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    half.replace(directory / MANIFEST)


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest of a directory, None if there is none (or another program's).

    Raises:
        DataError: if it is damaged.
    """
    file = directory / MANIFEST
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return content if content.get("layout") == LAYOUT else None
    except (OSError, ValueError, AttributeError) as error:
        raise DataError("a manifest is JSON that can be read", f"{file}: {error}",
                        "delete it and fetch or build again") from None  # fmt: skip


def checksum(file: Path, kind: Literal["sha256", "git"] = "sha256") -> str:
    """Hash (hex) of a file: SHA-256, or the SHA-1 by which git names the same bytes."""
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Be the only command that writes into `directory`, made if needed, and left out again if it stays empty.

    The system lets go of the lock if the process dies.

    Raises:
        DataError: if another process is at it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = directory / ".lock"
    try:
        with lock.open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = lock.stat().st_ino == os.fstat(stream.fileno()).st_ino  # else its holder just left
            except (BlockingIOError, FileNotFoundError):
                mine = False
            if not mine:
                raise DataError("one command at a time writes into a directory", f"{directory} is in use",
                                "wait for it, or give another --out")  # fmt: skip
            try:
                yield
            finally:
                lock.unlink()
    finally:
        with suppress(OSError):
            directory.rmdir()  # goes only if nothing is in it


def nearest_directory(path: Path) -> Path:
    """The closest directory above `path` that exists: where its disk is.

    Raises:
        DataError: if something that is no directory lies in the way.
    """
    found = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not found.is_dir():
        raise DataError("--out is a directory, new or existing", f"{found} is a file", "give another --out")
    if not os.access(found, os.W_OK):
        raise DataError("--out is a place that can be written to", str(found), "give another --out")
    return found
