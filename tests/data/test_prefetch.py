"""Prefetching: in order, a little ahead, loud about errors, and gone when the block is left."""

import threading
import time

import pytest

from pgolf.data.prefetch import AHEAD, Prefetch


def threads() -> int:
    return sum(t.name == "prefetch" for t in threading.enumerate())


class Source:
    """Counts what was asked of it."""

    def __init__(self, fails_at: int = 10**9):
        self.made, self.fails_at, self.by = 0, fails_at, set()

    def __iter__(self):
        while True:
            if self.made == self.fails_at:
                raise OSError("the disk is gone")
            self.by.add(threading.current_thread().name)
            self.made += 1
            yield self.made - 1


def settled(source: Source) -> int:
    """What was made once nothing more is."""
    before = -1
    while before != source.made:
        before = source.made
        time.sleep(0.05)
    return source.made


def test_everything_comes_in_order_and_from_another_thread():
    source = Source()
    with Prefetch(source) as ahead:
        assert [next(ahead) for _ in range(50)] == list(range(50))
    assert source.by == {"prefetch"}


def test_it_is_two_ahead_and_no_more():
    source = Source()
    with Prefetch(source) as ahead:
        assert settled(source) == AHEAD == 2, "made before anyone asked"
        for i in range(3):
            next(ahead)
            assert settled(source) == i + 1 + AHEAD


def test_what_the_thread_raises_is_raised_to_the_consumer_in_its_place():
    with Prefetch(Source(fails_at=3)) as ahead:
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(OSError, match="the disk is gone"):
                next(ahead)
    assert threads() == 0


def test_it_ends_when_its_source_does():
    with Prefetch(range(3)) as ahead:
        assert list(ahead) == [0, 1, 2]
        assert list(ahead) == []


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_leaving_the_block_ends_the_thread(taken):
    with Prefetch(Source()) as ahead:
        for _ in range(taken):
            next(ahead)
        assert threads() == 1
    assert threads() == 0


def test_an_error_in_the_block_ends_the_thread_and_goes_on():
    def work() -> None:
        with Prefetch(Source()) as ahead:
            raise ZeroDivisionError(next(ahead))

    with pytest.raises(ZeroDivisionError):
        work()
    assert threads() == 0
