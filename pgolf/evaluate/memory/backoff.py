"""Exact counts over the network: interpolated backoff from long contexts to short ones to what is below.

    p_n(y) = (max(c(y) - d, 0) + (alpha + d u) p_(n-1)(y)) / (c + alpha)        p_0 = what is below

with c(y) occurrences of y after the context of n tokens, c of anything, u different tokens that followed. d = 0 is the
posterior mean of a Dirichlet prior around the shorter context's distribution, d > 0 absolute discounting (Kneser and
Ney's, without their counts of types), both a Pitman-Yor process's. Whatever the counts, each p_n sums to one if
p_(n-1) does: the discounts are what the shorter context is given.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.evaluate.memory.grams import Array, Followers, tensor
from pgolf.evaluate.memory.remembering import Hints, MemorySection, Recall, Remembering
from pgolf.evaluate.memory.token_tilt import check_orders
from pgolf.evaluate.memory.trust import Balance, Trust, Trusting
from pgolf.evaluate.predictor import Ask, Predictor, Scored
from pgolf.section import RuleBroken

Found = list[tuple[int, Followers]]  # by length of the context
COUNTS = (2, 4, 16)  # occurrences where buckets of a context's count end


class Backoff(MemorySection):
    kind: Literal["backoff"] = "backoff"
    orders: tuple[int, ...] = (3, 4, 6)  # tokens of a context
    alpha: float = Field(8.0, ge=0)  # occurrences that the shorter context's distribution is worth
    discount: float = Field(0.0, ge=0, lt=1)  # of every count
    gate: Trust | None = Trust()

    @model_validator(mode="after")
    def _has_orders(self) -> "Backoff":
        check_orders(self.orders)
        if not (self.alpha or self.discount):
            raise RuleBroken(
                "backoff leaves shorter contexts something: alpha or discount above zero",
                "alpha=0, discount=0",
                "alpha=8",
            )
        return self

    def over(self, base: Predictor) -> "BackoffPredictor":
        return BackoffPredictor(self, base)


class Counting(Remembering):
    """A memory of exact counts that changes distributions as a whole."""

    def __init__(self, section: MemorySection, base: Predictor, orders: tuple[int, ...]) -> None:
        super().__init__(section, base)
        self.orders, self.sure = orders, len(orders) * (len(COUNTS) + 1)

    def forget(self) -> None:
        super().forget()
        self.recall = Recall(self.orders, self.document, self.share)

    def opened(self) -> None:
        super().opened()
        self.recall.open()

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        super().tell(ask, targets)
        self.recall.observe(ask, targets)

    def share_out(self, scored: Scored) -> None:
        super().share_out(scored)
        self.recall.learn(scored)

    def recalled(self, ask: Ask) -> Found:
        """What followed each length's contexts, the longest first."""
        self.found = list(self.recall.of(ask))
        return self.found

    def sureness(self, ask: Ask) -> Array:
        """The longest context that was seen, and how often."""
        bucket = np.full(ask.targets, -1)
        for number, (_, found) in enumerate(reversed(self.found)):
            totals = found.totals(ask.targets)
            count = np.searchsorted(COUNTS, totals, "right")
            bucket = np.where(totals > 0, number * (len(COUNTS) + 1) + count, bucket)
        return bucket

    def shown(self) -> Hints:
        """The most frequent follower of the longest context that was seen."""
        parts = []
        taken = np.zeros(0, dtype=np.int64)
        for order, found in self.found:
            hints = Hints.of(found, order)
            parts.append(hints.of_rows(~np.isin(hints.rows, taken)))
            taken = np.union1d(taken, hints.rows)
        return Hints.joined(parts)


class BackoffPredictor(Counting, Trusting):
    def __init__(self, section: Backoff, base: Predictor) -> None:
        super().__init__(section, base, section.orders)
        self.alpha, self.discount = section.alpha, section.discount
        self.balance = Balance.of(section.gate, self.sure)

    def believed(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        p, changed = below.exp(), np.zeros(ask.targets, dtype=bool)
        for _, found in reversed(self.recalled(ask)):
            totals, kinds = found.totals(ask.targets), found.kinds(ask.targets)
            changed |= totals > 0
            whole = totals + self.alpha
            left = np.divide(
                self.alpha + self.discount * kinds, whole, out=np.ones(len(whole)), where=totals > 0
            )
            p *= tensor(left, p).unsqueeze(1)
            came = (found.counts - self.discount) / whole[found.rows]
            p[tensor(found.rows, p), tensor(found.tokens, p)] += tensor(came, p)
        return p.log().where(tensor(changed, p).unsqueeze(1), below)
