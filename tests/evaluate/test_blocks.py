"""Disjoint blocks."""

from pgolf.evaluate.blocks import Blocks
from tests.evaluate.contract import ModeContract


class TestBlocks(ModeContract):
    modes = (Blocks(context=3), Blocks(context=7))

    def seen_from(self, mode, target, starts, tokens):
        return (target - 1) // mode.context * mode.context
