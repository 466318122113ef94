"""Batches made in a thread, a few ahead of the loop that trains on them.

Two batches are ready or under way at any time and no more: the thread takes a permit before it makes one,
and the consumer gives it back when it takes one out, so nobody polls. What the thread raises is raised where
the batch was wanted. Leaving the block ends the thread, whatever the block was left by.
"""

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
AHEAD = 2  # batches


class Prefetch(Generic[T]):
    """Use as `with Prefetch(batches) as ahead: next(ahead)`. Ends when its source does."""

    def __init__(self, source: Iterable[T], ahead: int = AHEAD) -> None:
        self._source = source
        self._made: SimpleQueue[tuple[T] | BaseException] = SimpleQueue()
        self._permits, self._closed = threading.Semaphore(ahead), False
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)

    def __enter__(self) -> "Prefetch[T]":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._permits.release()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """The next batch; waits for it. Raises what making it raised, every time from then on."""
        if self._ended is None:
            made = self._made.get()
            if isinstance(made, tuple):
                self._permits.release()
                return made[0]
            self._ended = made
        raise self._ended

    def _work(self) -> None:
        try:
            source = iter(self._source)
            while True:
                self._permits.acquire()
                if self._closed:
                    return
                self._made.put((next(source),))
        except BaseException as ended:  # StopIteration too: it is what the consumer should see
            self._made.put(ended)
