"""Published shards from the hub, each file whole and checked, or not there at all.

A file grows under a hidden name that holds its checksum, is compared with it when all bytes are there, and
only then gets its own name. So a process that is killed at any moment leaves finished files and resumable
beginnings; the same command goes on where it stopped. What lies in the directory already is compared, kept
if it is the same and never written over. The manifest (repository, commit, size and SHA-256 of every file)
comes last.

All of validation is fetched, with the byte sidecars that belong to it, and the first N training shards: the
challenge's order is frozen, so N shards are a prefix of everybody else's training stream.
"""

import io
import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgolf.data.directory import (
    MANIFEST,
    TOKENIZER_FILE,
    Watch,
    alone,
    nearest_directory,
    read_manifest,
    unwatched,
    write_manifest,
)
from pgolf.data.hub import Hub, Remote
from pgolf.data.published import VARIANTS, Variant
from pgolf.errors import DataError, nearest
from pgolf.formats.shards import read_shard

TRAIN_SHARDS = 80  # the challenge's own default: 8e9 tokens, more than any 600-second run reads
SHARD = re.compile(r"(?:.*_)?(?P<split>train|val)_(?P<bytes>bytes_)?(?P<index>\d+)\.bin")
AT_ONCE = 4  # files in flight; a hub throttles more than it speeds up beyond that


@dataclass(frozen=True)
class Fetch:
    """What to fetch, and where it lies if it is none of the known variants."""

    variant: str
    repo: str | None = None
    revision: str = "main"
    prefix: str | None = None  # folder of the export in the repository
    folder: str | None = None  # folder of the shards themselves, if the layout is another
    tokenizer: str | None = None  # path of the .model in the repository, if no manifest says it
    train_shards: int | None = None
    endpoint: str | None = None

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS and self.repo is None:
            raise DataError("a variant is one of the published ones, or comes with --repo", self.variant,
                            nearest(self.variant, VARIANTS))  # fmt: skip
        if self.train_shards is not None and self.train_shards < 0:
            raise DataError("--train-shards counts shards", self.train_shards, "0 fetches validation alone")

    @property
    def known(self) -> Variant:
        """The published variant of this name, its repository and prefix replaced by those that were given."""
        base = VARIANTS.get(self.variant, Variant("", f"fineweb10B_{self.variant}"))
        return Variant(
            self.repo or base.repo, base.dataset, (self.prefix or base.prefix).strip("/"), base.operators
        )

    @property
    def shards_folder(self) -> str:
        if self.folder is not None:
            return self.folder.strip("/")
        return f"{self.known.prefix}/datasets/{self.known.dataset}"


def fetch(asked: Fetch, out: Path, watch: Watch = unwatched) -> dict[str, Any]:
    """Fetch into `out` and return its manifest.

    Raises:
        DataError: if the hub lacks what was asked for or does not answer, if `out` holds another file of
            one of the names, if the disk is too small, or if bytes arrive damaged twice.
        OSError: if the disk is full in spite of that; what has come stays for the next try.
    """
    nearest_directory(out)
    if (out / MANIFEST).exists() and read_manifest(out) is None:
        raise DataError(
            "--out holds nothing that another program wrote", str(out / MANIFEST), "another --out"
        )
    hub = Hub(asked.known.repo, asked.revision, asked.endpoint)
    wanted = _wanted(asked, hub)
    with alone(out):
        _fits_the_disk(wanted, out)
        _download(hub, _compared(wanted, out, watch), out, watch)
        content = {
            "made_by": "fetch",
            "variant": asked.variant,
            "source": {"repo": hub.repo, "commit": hub.commit, "endpoint": hub.endpoint},
            "paths": {remote.name: remote.path for remote in wanted},
        }
        write_manifest(out, content, [out / remote.name for remote in wanted])
        for remote in wanted:  # what is left of other commits' files of the same names
            for stale in out.glob(f".{remote.name}.*.partial"):
                stale.unlink()
    manifest = read_manifest(out)
    assert manifest is not None, "written just now"
    return manifest


def _wanted(asked: Fetch, hub: Hub) -> list[Remote]:
    """Every file to have: validation, its sidecars, the first training shards, the tokenizer."""
    folder = asked.shards_folder
    listed = hub.files(folder)
    shards = {
        (m["split"], bool(m["bytes"]), int(m["index"])): r for r in listed if (m := SHARD.fullmatch(r.name))
    }
    if not shards:
        parent = folder.rpartition("/")[0]
        known = [name.removeprefix("fineweb10B_") for name in hub.folders(parent)]
        there = nearest(asked.variant, known) if known else f"look at {hub.endpoint}/datasets/{hub.repo}"
        raise DataError("the repository has shards where they are looked for", f"{hub.repo}: none in {folder}",
                        f"--folder or --path-prefix; {there}")  # fmt: skip
    train = _counted(shards, "train", asked.train_shards, hub)
    validation = _counted(shards, "val", None, hub)
    sidecars = {index: r for (split, sidecar, index), r in shards.items() if split == "val" and sidecar}
    if not validation:
        raise DataError("a published export has a validation split", f"{hub.repo}: {folder}", "--folder")
    unpaired = {i for split, sidecar, i in shards if split == "val" and not sidecar} ^ set(sidecars)
    if unpaired and (sidecars or asked.known.operators):
        raise DataError("every validation shard of this variant has its byte sidecar",
                        f"{hub.repo}: {len(sidecars)} sidecars for {len(validation)} shards in {folder}",
                        "without them the bytes are counted wrong: give another --repo")  # fmt: skip
    return [_tokenizer(asked, hub, listed), *validation, *sidecars.values(), *train]


def _counted(
    shards: dict[tuple[str, bool, int], Remote], split: str, asked: int | None, hub: Hub
) -> list[Remote]:
    """The first shards of a split, in order and without a gap."""
    there = {index: r for (s, sidecar, index), r in shards.items() if s == split and not sidecar}
    count = (min(len(there), TRAIN_SHARDS) if split == "train" else len(there)) if asked is None else asked
    first = min(there, default=0)
    for index in range(first, first + count):
        if index not in there:
            rule = "a repository has as many shards as are asked for, numbered without a gap"
            found = f"{hub.repo}: {len(there)} {split} shards, and none with the number {index:06d}"
            raise DataError(rule, found, f"--train-shards {index - first}" if split == "train" else "--repo")
    return [there[index] for index in range(first, first + count)]


def _tokenizer(asked: Fetch, hub: Hub, listed: list[Remote]) -> Remote:
    """The .model file: as given, as the export's manifest says, or the only one beside the shards."""
    path = asked.tokenizer or _in_manifest(asked, hub)
    beside = [r for r in listed if r.name.endswith(".model")]
    if path is None and len(beside) == 1:
        return replace(beside[0], renamed=TOKENIZER_FILE)
    found = [] if path is None else [r for r in hub.files(path.rpartition("/")[0]) if r.path == path]
    if not found:
        raise DataError("the repository has the tokenizer that its shards were written with",
                        f"{hub.repo}: {path or 'its manifest names none for ' + asked.known.dataset}",
                        "--tokenizer-path PATH/IN/REPOSITORY.model")  # fmt: skip
    return replace(found[0], renamed=TOKENIZER_FILE)


def _in_manifest(asked: Fetch, hub: Hub) -> str | None:
    """What the export's own manifest says is the tokenizer of this dataset, as a path in the repository."""
    prefix = asked.known.prefix
    listed = [r for r in hub.files(prefix) if r.name == MANIFEST]
    if not listed:
        return None
    text = io.BytesIO()
    hub.get(listed[0], text)
    try:
        content = json.loads(text.getvalue())
        name = next(d["tokenizer_name"] for d in content["datasets"] if d["name"] == asked.known.dataset)
        model = next(t["model_path"] for t in content["tokenizers"] if t["name"] == name)
    except (ValueError, KeyError, TypeError, StopIteration):
        return None
    return f"{prefix}/{model}"


def _fits_the_disk(wanted: list[Remote], out: Path) -> None:
    needed = sum(r.size for r in wanted if not (out / r.name).exists())
    needed -= sum(f.stat().st_size for r in wanted if (f := _partial(r, out)).exists())
    if (free := shutil.disk_usage(out).free) < needed:
        raise DataError("the disk has room for what is fetched", f"{free:,} bytes free, {needed:,} to come",
                        "fewer --train-shards, or another --out")  # fmt: skip


def _compared(wanted: list[Remote], out: Path, watch: Watch) -> list[Remote]:
    """The files still to come. Refuses if one that is there is another."""
    there = [r for r in wanted if (out / r.name).exists()]
    for i, remote in enumerate(there):
        if not remote.is_(out / remote.name):
            raise DataError("files are not written over", f"{out / remote.name} is not the published one",
                            "move it away, or give another --out")  # fmt: skip
        watch("files that are there already", i + 1, len(there))
    return [r for r in wanted if r not in there]


def _download(hub: Hub, missing: list[Remote], out: Path, watch: Watch) -> None:
    """All missing files, a few at a time; the first that fails ends the others where they are."""
    begun = sum(f.stat().st_size for r in missing if (f := _partial(r, out)).exists())
    tally = _Tally(watch, begun, sum(r.size for r in missing))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(_one, hub, remote, out, tally) for remote in missing]
        try:
            for done in as_completed(futures):
                done.result()
        except BaseException:
            tally.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _one(hub: Hub, remote: Remote, out: Path, tally: "_Tally") -> None:
    """One file. Bytes that are damaged may have come with the part of an earlier run: they are fetched anew."""
    partial = _partial(remote, out)
    for begun in (partial.exists() and partial.stat().st_size > 0, False):
        with partial.open("ab") as stream:
            growing = _Counted(stream, tally)
            if growing.tell() > remote.size:
                growing.seek(0)
                growing.truncate()
            hub.get(remote, growing)
        if remote.is_(partial):
            break
        tally.add(-partial.stat().st_size)
        partial.unlink()
        if not begun:
            raise DataError("a file has the checksum that the hub lists for it",
                            f"{remote.path}: its bytes came damaged",
                            "try again later; through a mirror, try without --endpoint")  # fmt: skip
    if SHARD.fullmatch(remote.name):
        try:
            read_shard(partial)
        except DataError as error:
            partial.unlink()
            raise DataError(error.rule, f"{remote.path} of {hub.repo}", "give another --repo") from None
    partial.rename(out / remote.name)


def _partial(remote: Remote, out: Path) -> Path:
    return out / f".{remote.name}.{remote.checksum[:16]}.partial"


class _Stopped(Exception):
    """Another file failed: this one ends where it is."""


class _Tally:
    """Bytes of all files together, for the watch; and the sign to stop."""

    def __init__(self, watch: Watch, begun: int, total: int) -> None:
        self.stopped = threading.Event()
        self._lock, self._watch = threading.Lock(), watch
        self._done, self._total = begun, total
        self.add(0)

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._watch("bytes", self._done, self._total)


class _Counted:
    """A file whose growth is tallied."""

    def __init__(self, stream: Any, tally: _Tally) -> None:
        self._stream, self._tally = stream, tally

    def tell(self) -> int:
        return int(self._stream.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._stream.seek(offset, whence))

    def write(self, block: bytes) -> int:
        if self._tally.stopped.is_set():
            raise _Stopped
        written: int = self._stream.write(block)
        self._tally.add(written)
        return written

    def truncate(self) -> int:
        """Drop what lies behind the current position (a server that cannot resume begins anew)."""
        kept = self._stream.tell()
        self._tally.add(kept - self._stream.seek(0, io.SEEK_END))
        self._stream.seek(kept)
        return int(self._stream.truncate())
