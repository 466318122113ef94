"""A corpus on disk in the order it is built in, each document on its side of the split.

By hash: documents lie in files by the first byte of their SHA-256, which are sorted one at a time, so memory
holds one file of many and the order is that of all hashes. As given: one file, in order.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pgolf.data.corpus import split_of
from pgolf.errors import DataError

BUCKETS = 128  # files of a spill by hash

Side = Literal["validation", "select", "train"]


@dataclass(frozen=True)
class Split:
    """Who is held out: a number of documents or, by hash, a fraction of them; select only if asked for."""

    validation_documents: int | None = None
    validation_fraction: float | None = None
    select_documents: int = 0  # 0: the source `shards` cuts select from the end of training
    order: Literal["hash", "given"] = "hash"

    def __post_init__(self) -> None:
        number, fraction = self.validation_documents, self.validation_fraction
        if (number is None) == (fraction is None):
            raise DataError("validation is a number of documents or a fraction of them", f"{number} and {fraction}",
                            "give one of --validation-documents and --validation-fraction")  # fmt: skip
        if self.order == "given" and number is None:
            raise DataError("in the given order validation is the first documents of the list",
                            f"--validation-fraction {fraction}", "--validation-documents N")  # fmt: skip
        if fraction is not None and not 0 < fraction < 0.5:
            raise DataError(
                "a fraction held out is above 0 and below a half", fraction, "--validation-fraction 0.01"
            )
        at_least("--validation-documents", 1, number)
        at_least("--select-documents", 0, self.select_documents)

    @property
    def held_out(self) -> tuple[Side, ...]:
        return ("validation", "select") if self.select_documents else ("validation",)


def at_least(option: str, least: int, value: int | None, most: int | None = None) -> None:
    """Raises DataError if a number is given and is not in its range."""
    if value is not None and not least <= value <= (value if most is None else most):
        limits = f"at least {least}" + (f" and at most {most}" if most is not None else "")
        raise DataError(f"{option} is {limits}", value, f"{option} {least if value < least else most}")


class Spill:
    """The corpus on disk, in the order asked for; iterating gives (side, document), held-out sides first.

    A record is the text's SHA-256, its length (8 bytes, little-endian), the text.
    """

    def __init__(self, folder: Path, split: Split, texts: Iterable[bytes]) -> None:
        self.split = split
        self._files = [folder / f"{i:03d}" for i in range(BUCKETS if split.order == "hash" else 1)]
        with ExitStack() as stack:
            streams = [stack.enter_context(f.open("wb")) for f in self._files]
            for text in texts:
                key = hashlib.sha256(text).digest()
                stream = streams[key[0] * len(streams) >> 8]
                stream.write(key + len(text).to_bytes(8, "little") + text)
        self.documents = dict.fromkeys((*split.held_out, "train"), 0)
        self.bytes = dict.fromkeys(self.documents, 0)
        self.copies: Counter[str] = Counter()
        for side, text in self._sided(self.copies):
            self.documents[side] += 1
            self.bytes[side] += len(text)

    @property
    def rule(self) -> dict[str, Any]:
        """How the split was made, for the manifest."""
        return {
            **asdict(self.split),
            "copies_kept_on_one_side": self.copies["kept"],
            "copies_of_held_out_left_out": self.copies["left out"],
        }

    def check(self) -> None:
        """Raises DataError if a side has no document, or fewer than were asked for."""
        split, total = self.split, sum(self.documents.values())
        for side, count in self.documents.items():
            least = (getattr(split, f"{side}_documents") if side != "train" else None) or 1
            if count < least:
                by_chance = side == "validation" and split.validation_documents is None and total > 1
                raise DataError("every split has the documents that it was promised",
                                f"{side}: {count} of {least}, out of {total} documents",
                                "--validation-documents N, or a larger fraction" if by_chance else
                                "give more documents (--separator cuts a text file), or hold fewer of them out",
                                )  # fmt: skip

    def __iter__(self) -> Iterator[tuple[Side, bytes]]:
        return self._sided(Counter())

    def _sided(self, copies: Counter[str]) -> Iterator[tuple[Side, bytes]]:
        return self._by_hash(copies) if self.split.order == "hash" else self._as_given(copies)

    def _by_hash(self, copies: Counter[str]) -> Iterator[tuple[Side, bytes]]:
        """Distinct texts are counted off from the smallest hash up; a copy goes where its text went."""
        split, last = self.split, b""
        side: Side = "train"
        room = {"validation": split.validation_documents or 0, "select": split.select_documents}
        for file in self._files:
            for key, text in sorted(_records(file), key=lambda record: record[0]):
                if key == last:
                    copies["kept"] += 1
                else:
                    below = split_of(key.hex(), 0, split.validation_fraction or 0) == "validation"
                    side = "validation" if below else next((s for s in split.held_out if room[s]), "train")
                    if side != "train" and not below:
                        room[side] -= 1
                last = key
                yield side, text

    def _as_given(self, copies: Counter[str]) -> Iterator[tuple[Side, bytes]]:
        """Held-out sides are filled first; a copy of a held-out text is left out of the sides after it."""
        held: dict[bytes, Side] = {}
        room = {
            "validation": self.split.validation_documents or 0,
            "select": self.split.select_documents,
        }
        for key, text in _records(self._files[0]):
            side: Side = next((s for s in self.split.held_out if room[s]), "train")
            if held.get(key, side) != side:
                copies["left out"] += 1
                continue
            if side != "train":
                held[key] = side
                room[side] -= 1
            yield side, text


def _records(file: Path) -> Iterator[tuple[bytes, bytes]]:
    with file.open("rb") as stream:
        while head := stream.read(40):
            yield head[:32], stream.read(int.from_bytes(head[32:], "little"))
