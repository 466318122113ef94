"""Disjoint segments of documents."""

import numpy as np

from pgolf.evaluate.predictor import Extent
from pgolf.evaluate.varlen import Varlen
from tests.evaluate.contract import ModeContract, document_of


class TestVarlen(ModeContract):
    modes = (Varlen(context=3), Varlen(context=7))

    def seen_from(self, mode, target, starts, tokens):
        begin, _ = document_of(target, starts, tokens)
        return begin + (target - 1 - begin) // mode.context * mode.context


def test_worked_example():
    """Documents of five and four tokens in segments of three inputs; the second BOS is the first one's last target."""
    segments = Varlen(context=3).segments(Extent(9, np.array([0, 5])))
    assert segments.tolist() == [[0, 1, 4], [3, 4, 6], [5, 6, 9]]
