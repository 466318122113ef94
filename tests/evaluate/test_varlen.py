"""Disjoint segments of documents."""

from pgolf.evaluate.varlen import Varlen
from tests.evaluate.contract import ModeContract, document_of


class TestVarlen(ModeContract):
    modes = (Varlen(context=3), Varlen(context=7))

    def seen_from(self, mode, target, starts, tokens):
        begin, _ = document_of(target, starts, tokens)
        return begin + (target - 1 - begin) // mode.context * mode.context
