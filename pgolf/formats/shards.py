"""Token shards in the challenge's format, and byte sidecars in the same format.

    256 little-endian int32: 20240520, 1, n, 0, ...     then n uint16 tokens (or byte counts)

Each document is BOS (id 1) followed by its tokens; there is no end mark. A sidecar holds, for every
token of the shard beside it, the bytes of original text that the token stands for (BOS: 0).
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgolf.errors import DataError

MAGIC, VERSION, HEADER_WORDS = 20240520, 1, 256
HEADER_BYTES = HEADER_WORDS * 4
BOS = 1
SPLITS = ("train", "select", "validation")

TRAIN_FILE = re.compile(r"(^|_)train_.*\.bin$")  # of names, pgolf's own and the published exports'
HELD_OUT_FILE = re.compile(r"(^|_)(val|validation)_.*\.bin$")
SHARD_FILE = re.compile(r"(^|_)(train|select|val|validation)_.*\.bin$")

Tokens = NDArray[np.uint16]


def write_shard(path: Path, values: Tokens) -> None:
    """Write n values (tokens or byte counts) as one shard."""
    header = np.zeros(HEADER_WORDS, dtype="<i4")
    header[:3] = MAGIC, VERSION, len(values)
    with path.open("wb") as stream:
        stream.write(header.tobytes())
        stream.write(np.ascontiguousarray(values, dtype="<u2").tobytes())


def read_shard(path: Path) -> Tokens:
    """Memory-map a shard's values.

    Raises:
        DataError: if the file is missing, is no shard, or is shorter or longer than its header says.
    """
    if not path.is_file():
        raise DataError("a shard is a file that can be read", str(path), "check the path")
    size = path.stat().st_size
    header = np.fromfile(path, dtype="<i4", count=3)
    if size < HEADER_BYTES or header[0] != MAGIC or header[1] != VERSION:
        raise DataError(
            f"a shard begins with {MAGIC}, {VERSION}, its token count",
            f"{path}: {header.tolist()}",
            "fetch or build the shard again",
        )
    expected = HEADER_BYTES + 2 * int(header[2])
    if size != expected:
        raise DataError(
            f"a shard of {header[2]} tokens has {expected} bytes",
            f"{path}: {size} bytes",
            "the file is cut short or damaged: fetch or build it again",
        )
    if header[2] == 0:
        return np.zeros(0, dtype=np.uint16)
    return np.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES)


def shard_name(split: str, index: int = 0) -> str:
    return f"{split}_{index:06d}.bin"


def sidecar_name(split: str, index: int = 0) -> str:
    return f"{split}_bytes_{index:06d}.bin"


def sidecar_of(shard: Path, split: str) -> Path:
    """The byte sidecar beside a token shard."""
    return shard.with_name(shard.name.replace(f"{split}_", f"{split}_bytes_", 1))


def shards_of(directory: Path, split: str) -> list[Path]:
    """A split's token shards in order. Sidecars share the prefix and are never among them."""
    return sorted(p for p in directory.glob(f"{split}_*.bin") if "_bytes_" not in p.name)


def read_split(directory: Path, split: str) -> tuple[Tokens, Tokens]:
    """A scored split's tokens and byte counts, each whole in memory.

    Raises:
        DataError: if a shard or sidecar is missing or damaged, or their lengths differ.
    """
    tokens, counts = [], []
    for shard in shards_of(directory, split):
        sidecar = sidecar_of(shard, split)
        tokens.append(np.asarray(read_shard(shard)))
        counts.append(np.asarray(read_shard(sidecar)))
        if len(tokens[-1]) != len(counts[-1]):
            raise DataError(
                "a byte sidecar has one count for each token",
                f"{sidecar.name}: {len(counts[-1])} counts for {len(tokens[-1])} tokens",
                "build the shards again",
            )
    if not tokens:
        raise DataError(f"the {split} split has a shard", str(directory), "build the shards again")
    return np.concatenate(tokens), np.concatenate(counts)
