"""Research, outside the rules: the stream's first tokens, stored beside the weights, score nothing (PR 168, 275).

Validation data in the artifact was ruled out on 2026-03-20. The answers are distributions all the same: all of the
probability lies on the token that was paid for.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor

from pgolf.evaluate.memory.grams import tensor
from pgolf.evaluate.memory.remembering import Hints, MemorySection, Remembering
from pgolf.evaluate.predictor import Ask, Predictor


class PaidPrefix(MemorySection):
    OUTSIDE_RULES: ClassVar[str | None] = (
        "C1: the artifact holds tokens of the text that it is scored on (PR 168, 275)"
    )
    kind: Literal["paid_prefix"] = "paid_prefix"
    research: Literal[True]  # has to be said
    tokens: tuple[int, ...]  # from the beginning of the stream

    @model_validator(mode="after")
    def _is_told_nothing(self) -> "PaidPrefix":
        self.of_documents_alone("what it was sold with")
        return self

    @property
    def needs_documents(self) -> bool:
        return False

    def over(self, base: Predictor) -> "PaidPrefixPredictor":
        return PaidPrefixPredictor(self, base)


class PaidPrefixPredictor(Remembering):
    """It is told nothing: it knows beforehand."""

    def __init__(self, section: PaidPrefix, base: Predictor) -> None:
        super().__init__(section, base)
        self.document = self.share = False
        self.adapts, self.learns = base.adapts, base.learns
        self.paid = np.array(section.tokens, dtype=np.int64)

    def mix(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        places = ask.positions()
        self.rows = np.flatnonzero(places < len(self.paid))
        self.tokens, self.places = self.paid[places[self.rows]], places[self.rows]
        out = below.clone()
        out[tensor(self.rows, out)] = -torch.inf
        out[tensor(self.rows, out), tensor(self.tokens, out)] = 0.0
        return out

    def shown(self) -> Hints:
        one = np.ones(len(self.rows), dtype=np.int64)
        return Hints(self.rows, self.tokens, one.astype(np.float64), 0 * one, one, one, self.places)
