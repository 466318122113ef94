"""The ledger's checker: every target exactly once, from what came before it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.formats.ledger import check_ledger, read_ledger, write_ledger


def check(*windows: tuple[int, int, int], tokens: int = 10) -> str | None:
    return check_ledger(np.array(windows, dtype=np.int64).reshape(-1, 3), tokens)


def test_windows_that_tile_the_targets_hold():
    assert check((0, 1, 5), (1, 5, 9), (5, 9, 10)) is None
    assert check((0, 5, 10), (0, 1, 5)) is None  # in any order


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([(0, 1, 5), (1, 6, 10)], "target 5 was scored 0 times"),
        ([(0, 1, 6), (1, 5, 10)], "target 5 was scored 2 times"),
        ([(0, 1, 9)], "target 9 was scored 0 times"),
        ([], "target 1 was scored 0 times"),
        ([(0, 1, 10), (0, 1, 2)], "target 1 was scored 2 times"),
        ([(0, 0, 10)], "has no past"),
        ([(-1, 0, 10)], "has no past"),
        ([(3, 3, 10), (0, 1, 3)], "has no past"),
        ([(4, 3, 10), (0, 1, 3)], "has no past"),
        ([(0, 1, 11)], "leaves the stream"),
        ([(0, 5, 4), (0, 1, 10)], "has no past"),
        ([(-2, 1, 10)], "has no past"),
    ],
)
def test_gap_overlap_and_a_missing_past_are_caught(windows, words):
    assert words in str(check(*windows))


@given(cuts=st.sets(st.integers(2, 29), max_size=8), drop=st.data())
def test_any_tiling_holds_and_any_shifted_edge_breaks_it(cuts, drop):
    edges = [1, *sorted(cuts), 30]
    windows = [(max(begin - 7, 0), begin, end) for begin, end in pairwise(edges)]
    assert check(*windows, tokens=30) is None
    at = drop.draw(st.integers(0, len(windows) - 1))
    context, begin, end = windows[at]
    for spoilt in ((context, begin, end - 1), (context, begin, end + 1), (begin, begin, end)):
        assert check(*windows[:at], spoilt, *windows[at + 1 :], tokens=30) is not None
    assert check(*windows[:at], *windows[at + 1 :], tokens=30) is not None


def test_a_ledger_comes_back(tmp_path):
    windows = np.array([[0, 1, 4]], dtype=np.int64)
    nll = np.array([0, 0.1, 1e-17, 3.0])
    write_ledger(tmp_path, windows, nll)
    again = read_ledger(tmp_path)
    assert (again[0] == windows).all()
    assert (again[1] == nll).all()
    assert again[1].dtype == np.float64
