"""Tilts towards the token that most often followed the same n tokens (PR 1514, 2018 and later).

Contexts are compared exactly and never cross a document's start. The longest context that was seen `min_count` times,
and of which the hint is at least a share of `threshold`, proposes its most frequent follower, of equally frequent ones
the latest; with `hints` two, its two most frequent. The records' kernel has one order of 16 and a fixed tilt; what
tilting costs where the network knows the hint already is the gate's affair (pgolf.evaluate.memory.gate).
"""

from typing import Literal

import numpy as np
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.evaluate.memory.gate import Gate, Learned
from pgolf.evaluate.memory.remembering import Hints, MemorySection, Recall
from pgolf.evaluate.memory.tilting import Tilting
from pgolf.evaluate.predictor import Ask, Predictor, Scored
from pgolf.section import RuleBroken


class TokenTilt(MemorySection):
    kind: Literal["token_tilt"] = "token_tilt"
    orders: tuple[int, ...] = (3, 4, 6, 8, 16)  # tokens of a context
    min_count: int = Field(1, ge=1)  # occurrences of the context
    threshold: float = Field(0.0, ge=0, le=1)  # least share of the hint
    hints: int = Field(1, ge=1, le=4)  # at a target
    gate: Gate = Learned()

    @model_validator(mode="after")
    def _has_orders(self) -> "TokenTilt":
        check_orders(self.orders)
        return self

    def over(self, base: Predictor) -> "TokenTiltPredictor":
        return TokenTiltPredictor(self, base)


def check_orders(orders: tuple[int, ...]) -> None:
    """Lengths of contexts: ascending, one token at least."""
    if not orders or list(orders) != sorted(set(orders)) or orders[0] < 1 or orders[-1] > 64:
        raise RuleBroken(
            "orders are rising numbers of tokens from 1 to 64", f"{list(orders)}", "[1, 2, 4, 8]"
        )


class TokenTiltPredictor(Tilting):
    def __init__(self, section: TokenTilt, base: Predictor) -> None:
        super().__init__(section, base, section.gate.build())
        self.orders, self.min_count, self.threshold = section.orders, section.min_count, section.threshold
        self.most = section.hints

    def forget(self) -> None:
        super().forget()
        self.recall = Recall(self.orders, self.document, self.share)

    def opened(self) -> None:
        super().opened()
        self.recall.open()

    def hints(self, ask: Ask) -> Hints:
        parts, open_ = [], np.ones(ask.targets, dtype=bool)  # targets without a hint so far
        for order, found in self.recall.of(ask):
            hints = Hints.of(found.of(open_), order, self.most)
            first = np.diff(hints.rows, prepend=-1) != 0
            sure = (hints.totals >= self.min_count) & (hints.conf >= self.threshold)
            taken = np.zeros(ask.targets, dtype=bool)
            taken[hints.rows[first & sure]] = True
            parts.append(hints.of_rows(taken[hints.rows]))
            open_ &= ~taken
        return Hints.joined(parts)

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        super().tell(ask, targets)
        self.recall.observe(ask, targets)

    def share_out(self, scored: Scored) -> None:
        super().share_out(scored)
        self.recall.learn(scored)
