"""Known positions against forwards from nothing."""

import numpy as np
import pytest
import torch

from pgolf.data.starts import document_starts
from pgolf.evaluate.past import Past, advanced
from pgolf.evaluate.predictor import Ask
from tests.nets import BOS, network, small

GENERATOR = torch.Generator().manual_seed(0)
STREAM = torch.cat(
    [torch.cat([torch.tensor([BOS]), torch.randint(2, 24, (29,), generator=GENERATOR)]) for _ in "ab"]
)
ORIGINS = (0, 30)


def asked(*windows: tuple[int, int, int]) -> Ask:
    """Windows of the two documents, in their own positions."""
    moved = np.array(windows) + np.array(ORIGINS[: len(windows)])[:, None]
    return Ask.of(STREAM, moved, range(len(windows)), [False] * len(windows))


@pytest.mark.parametrize("until", [0, 1, 3])
def test_rows_may_get_on_at_different_paces(until):
    """The second document stands still for one ask: its padding was no past."""
    built, pasts = network(small()), []
    for windows in ([(0, 1, 5), (0, 1, 5)], [(0, 5, 12), (0, 5, 8)], [(0, 12, 15), (0, 8, 15)]):
        ask = asked(*windows)
        got, pasts = advanced(built, pasts, ask, ORIGINS, until)
        expected = ask.asked(built.hidden(ask.tokens, ask.starts))
        assert (got - expected).abs().max() < 1e-5


def test_a_window_that_moves_on_attends_to_itself_alone():
    """One execution reads the embeddings only, so there a kept past and a whole window are the same."""
    built, pasts = network(small()), []
    for begin, end in ((0, 8), (0, 12), (4, 16), (8, 20), (16, 28)):
        ask = asked((begin, end - 3, end))
        _, pasts = advanced(built, pasts, ask, ORIGINS[:1], 1)
        row = STREAM[begin : end - 1].unsqueeze(0)
        whole = built.lower(row, document_starts(row), 1)
        assert len(pasts) == 1 and pasts[0].end == end - 1
        assert pasts[0].midway.x.shape == whole.x.shape
        assert (pasts[0].midway.x[:, -3:] - whole.x[:, -3:]).abs().max() < 1e-3


def test_nothing_is_changed_in_place():
    built = network(small())
    ask = asked((0, 1, 5), (0, 1, 5))
    _, first = advanced(built, [], ask, ORIGINS, 2)
    kept = Past(first[0].slots, first[0].first, first[0].cache.copy(), first[0].midway)
    more = asked((0, 5, 9), (0, 5, 9))
    once, _ = advanced(built, first, more, ORIGINS, 2)
    assert first[0].end == kept.end == 4
    again, _ = advanced(built, first, more, ORIGINS, 2)
    assert torch.equal(once, again)
