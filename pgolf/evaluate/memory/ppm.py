"""Prediction by partial matching over tokens, with what is below as the last resort.

The longest context that was seen gives each token that followed it a share and keeps the rest for the escape:

    method C    share c(y) / (c + u)          escape u / (c + u)
    method D    share (2 c(y) - 1) / 2 c      escape u / 2 c

with c occurrences, u different tokens. What escapes goes to the next shorter context, in which tokens that were
offered already do not count (exclusion), and at last to the distribution below, renormalized over the tokens that no
context offered. Where all tokens were offered nothing can escape, and the shares are scaled up (Cleary and Witten 1984,
Howard 1993). The network is asked only where counts give up, which is right for weak networks and long contexts.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor

from pgolf.evaluate.memory.backoff import Counting
from pgolf.evaluate.memory.grams import Followers, tensor
from pgolf.evaluate.memory.remembering import MemorySection
from pgolf.evaluate.memory.token_tilt import check_orders
from pgolf.evaluate.memory.trust import Balance, Trust, Trusting
from pgolf.evaluate.predictor import Ask, Predictor


class Ppm(MemorySection):
    kind: Literal["ppm"] = "ppm"
    orders: tuple[int, ...] = (8, 12, 16)  # tokens of a context
    method: Literal["c", "d"] = "d"
    gate: Trust | None = Trust()

    @model_validator(mode="after")
    def _has_orders(self) -> "Ppm":
        check_orders(self.orders)
        return self

    def over(self, base: Predictor) -> "PpmPredictor":
        return PpmPredictor(self, base)


class PpmPredictor(Counting, Trusting):
    def __init__(self, section: Ppm, base: Predictor) -> None:
        super().__init__(section, base, section.orders)
        self.by_c = section.method == "c"
        self.balance = Balance.of(section.gate, self.sure)

    def believed(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        rows, vocab = below.shape
        offered = np.zeros((rows, vocab), dtype=bool)
        p, left = np.zeros((rows, vocab)), np.ones(rows)
        for _, found in self.recalled(ask):
            new = ~offered[found.rows, found.tokens]
            found = Followers(found.rows[new], found.tokens[new], found.counts[new], found.last[new])
            if not len(found.rows):
                continue
            offered[found.rows, found.tokens] = True
            share, escape = self._shares(found, rows, np.all(offered, axis=1))
            p[found.rows, found.tokens] = left[found.rows] * share
            left = left * escape
        if not offered.any():
            return below
        rest = below.masked_fill(tensor(offered, below), -torch.inf)
        rest = rest.log_softmax(1).exp()  # not a number where all are offered
        rest = rest * tensor(left, below).unsqueeze(1)
        whole = torch.where(tensor(offered, below), tensor(p, below), rest)
        return whole.log().where(tensor(np.any(offered, axis=1), below).unsqueeze(1), below)

    def _shares(self, found: Followers, rows: int, full: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each follower, and of the escape by row: 1 where nothing followed, unused where a row is full."""
        totals, kinds = found.totals(rows), found.kinds(rows)
        weights, whole = (found.counts, totals + kinds) if self.by_c else (2 * found.counts - 1, 2 * totals)
        escape = np.divide(kinds, whole, out=np.ones(rows), where=totals > 0)
        scale = np.where(full, whole - kinds, whole)
        return weights / scale[found.rows], escape
