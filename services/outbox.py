"""An append-only file of JSON lines between a search and its record, with a mark of how far it was read.

An event is in the file before `append` returns; whoever delivers events moves the mark after delivery.
So an event can be delivered twice (killed between delivery and mark) but never lost: the receiver has to
be idempotent, which is easier to get right than exactly-once. A file and not a database: one `write`
per event, no lock to wait for, and a person can read it.

What kill -9 can leave at any byte is a last line without its newline. A JSON object's proper prefix is
never JSON, so that line is either whole (it gets its newline) or it is an event whose `append` never
returned (it is cut off). The file is not synced to disk: the kernel keeps written pages when a process
dies, and a power cut costs at most the last moments of a record that can be made again.

One writer per file, held by `flock`, which the kernel releases however the writer ends.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgolf.errors import StoreError

Event = dict[str, Any]


class Outbox:
    """The writer's end. `pending` and `mark_delivered` may be called from another thread than `append`."""

    def __init__(self, path: Path) -> None:
        """Take the file for writing, mending what a killed writer left.

        Raises:
            BlockingIOError: if another process (or another Outbox of this one) is writing to it.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise
        self._mend_last_line()
        self._delivered = self._read_mark()

    def append(self, event: Event) -> None:
        """Write one event, whole, before returning."""
        line = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        while line:  # a full disk can write less than it was given
            line = line[os.write(self._fd, line) :]

    def pending(self) -> Iterator[tuple[int, Event]]:
        """Undelivered events, oldest first, each with the mark to set once it is delivered."""
        yield from self._lines_from(self._delivered)

    def events(self) -> Iterator[Event]:
        """Every event ever appended, oldest first, delivered or not."""
        return (event for _, event in self._lines_from(0))

    def mark_delivered(self, mark: int) -> None:
        """Everything up to `mark` has arrived; said by replacing a file, so whole or not at all."""
        half = self._mark_path.with_suffix(".half")
        half.write_text(str(mark))
        half.replace(self._mark_path)
        self._delivered = mark

    @property
    def empty(self) -> bool:
        """True when every event has been delivered."""
        return self._delivered >= os.fstat(self._fd).st_size

    def close(self) -> None:
        """Give the file up to the next writer. Twice is once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def _mark_path(self) -> Path:
        return self.path.with_suffix(".delivered")

    def _lines_from(self, start: int) -> Iterator[tuple[int, Event]]:
        with self.path.open("rb") as stream:
            stream.seek(start)
            at = start
            for line in stream:
                if not line.endswith(b"\n"):
                    return  # `append` is still writing it
                at += len(line)
                yield at, self._parsed(line, at)

    def _parsed(self, line: bytes, end: int) -> Event:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise StoreError("a line of an outbox is one JSON object", f"{self.path} before byte {end}",
                             "delete that line; its event is lost, the others are not")  # fmt: skip
        return event

    def _mend_last_line(self) -> None:
        data = self.path.read_bytes()
        whole, last = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
        if not last:
            return
        try:
            complete = isinstance(json.loads(last), dict)
        except ValueError:
            complete = False
        if complete:
            os.write(self._fd, b"\n")
        else:
            os.ftruncate(self._fd, len(whole))

    def _read_mark(self) -> int:
        try:
            mark = int(self._mark_path.read_text())
        except (FileNotFoundError, ValueError):
            return 0  # deliver all again: the receiver is idempotent
        return mark if 0 <= mark <= os.fstat(self._fd).st_size else 0
