"""Disjoint blocks."""

import numpy as np

from pgolf.evaluate.blocks import Blocks
from pgolf.evaluate.predictor import Extent
from tests.evaluate.contract import ModeContract


class TestBlocks(ModeContract):
    modes = (Blocks(context=3), Blocks(context=7))

    def seen_from(self, mode, target, starts, tokens):
        return (target - 1) // mode.context * mode.context


def test_worked_example():
    """Nine tokens in blocks of four inputs: targets 1 to 4, 5 to 8; each block begins where it begins to score."""
    [[batch]] = Blocks(context=4).rounds(Extent(9, np.array([0])), [])
    assert batch.steps[0].windows.tolist() == [[0, 1, 5], [4, 5, 9]]
