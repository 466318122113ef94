"""The longest match: what followed the latest occurrence of the longest run of tokens that ends here (PR 780).

As LZ77 and the match models of PAQ do: of the `lengths` the longest whose context was seen proposes the token that
followed it last. How often such proposals were right is counted by length, in the document and in earlier rounds,
starting from length / (length + 4); what that is worth against the network is the gate's affair.
"""

from typing import Literal

import numpy as np
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.evaluate.memory.gate import LENGTH, Floats, Gate, Learned
from pgolf.evaluate.memory.grams import Array, Followers
from pgolf.evaluate.memory.remembering import Hints, MemorySection, Recall
from pgolf.evaluate.memory.tilting import Tilting
from pgolf.evaluate.memory.token_tilt import check_orders
from pgolf.evaluate.predictor import Ask, Predictor, Scored

HALF = 4  # length at which a match is first believed to be right half of the time


class MatchModel(MemorySection):
    kind: Literal["match_model"] = "match_model"
    lengths: tuple[int, ...] = (4, 6, 8, 12, 16, 24, 32)  # tokens of a match
    trust: float = Field(8.0, gt=0)  # matches that the first guess counts for
    gate: Gate = Learned()

    @model_validator(mode="after")
    def _has_lengths(self) -> "MatchModel":
        check_orders(self.lengths)
        return self

    def over(self, base: Predictor) -> "MatchModelPredictor":
        return MatchModelPredictor(self, base)


class MatchModelPredictor(Tilting):
    def __init__(self, section: MatchModel, base: Predictor) -> None:
        super().__init__(section, base, section.gate.build())
        self.lengths, self.trust = np.array(section.lengths), section.trust

    def forget(self) -> None:
        super().forget()
        self.recall = Recall(self.lengths.tolist(), self.document, self.share)
        first = np.stack([self.lengths / (self.lengths + HALF), np.ones(len(self.lengths))])
        self.shared = self.trust * first[None]  # [slots, right or all, lengths]
        self.own = self.shared

    def opened(self) -> None:
        super().opened()
        self.recall.open()
        self.own = self.shared.repeat(max(self.slots, 1), 0)

    def hints(self, ask: Ask) -> Hints:
        hints = longest(list(self.recall.of(ask)))
        at = np.searchsorted(self.lengths, hints.length)
        right, all_ = self.own[ask.owners[hints.rows], :, at].T
        return hints.but(right / all_)

    def learned(self, known: Floats, hits: Floats, owner: Array | None) -> None:
        super().learned(known, hits, owner)
        at = np.searchsorted(self.lengths, known[:, LENGTH])
        rows = np.zeros(len(at), dtype=np.int64) if owner is None else owner
        told = self.shared if owner is None else self.own
        np.add.at(told[:, 0], (rows, at), hits)
        np.add.at(told[:, 1], (rows, at), 1.0)

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        super().tell(ask, targets)
        self.recall.observe(ask, targets)

    def share_out(self, scored: Scored) -> None:
        super().share_out(scored)
        self.recall.learn(scored)


def longest(found: list[tuple[int, Followers]]) -> Hints:
    """Of every row's longest context that was seen the follower that came last."""
    parts, taken = [], np.zeros(0, dtype=np.int64)
    for length, of in found:
        order = np.lexsort((-of.last, of.rows))
        kept = order[np.diff(of.rows[order], prepend=-1) != 0]
        kept = kept[~np.isin(of.rows[kept], taken)]
        rows = of.rows[kept]
        totals = of.totals(int(of.rows.max(initial=-1)) + 1)
        parts.append(Hints(rows, of.tokens[kept], of.counts[kept] / totals[rows], np.full(len(rows), length),
                           of.counts[kept], totals[rows], of.last[kept]))  # fmt: skip
        taken = np.union1d(taken, rows)
    return Hints.joined(parts)
