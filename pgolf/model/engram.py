"""Engram: hashed bigrams and trigrams, two hashes each, projected together and gated per channel.

    h0 = (1009 p + c) mod B                                h1 = ((2719 p + 314159) XOR 3137 c) mod B
    h2 = (36313 pp XOR 27191 p XOR 4903 c) mod B           h3 = (7919 pp XOR 4391 p XOR 6151 c) mod B
    e <- e + sigmoid(gate) P [T0[h0]; T1[h1]; T2[h2]; T3[h3]]

with c the token, p and pp the two before it; a token that the document does not have counts as 0, as the row's
beginning did in the original. T ~ N(0, 0.01^2), P = 0, gate = 0: nothing at the start. Added where BigramHash
is (PR 1089, "EngramLite"; part of 1.1091 BPB. Larger tables burst the budget, PR 1205; a gated multi-order hash
was worse than the plain one, PR 1369).
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.linear import Linear
from pgolf.model.ngrams import preceding
from pgolf.model.roles import Role
from pgolf.section import Section

HASHES = 4  # two orders of two


class Engram(Section):
    kind: Literal["engram"] = "engram"
    buckets: int = Field(4096, ge=1)  # rows a hash
    rank: int = Field(32, ge=1)  # columns a hash
    init_std: float = Field(0.01, gt=0)

    def build(self, width: int) -> "EngramModule":
        return EngramModule(width, self.buckets, self.rank, self.init_std)


class EngramModule(nn.Module):
    ROLES = {"table": Role.TABLE, "gate": Role.CONTROL}

    def __init__(self, width: int, buckets: int, rank: int, init_std: float) -> None:
        super().__init__()
        self.buckets, self.init_std = buckets, init_std
        self.table = nn.Parameter(torch.empty(HASHES * buckets, rank))
        self.project = Linear(HASHES * rank, width, Role.PROJECTION, zero=True)
        self.gate = nn.Parameter(torch.empty(width))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.table, std=self.init_std, generator=generator)
        nn.init.zeros_(self.gate)

    def forward(
        self, tokens: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"], dtype: torch.dtype
    ) -> Float[Tensor, "batch time d"]:
        """What is added to the embedding of every position."""
        found = F.embedding(self.rows(tokens, starts), self.table).flatten(2).to(dtype)
        return torch.sigmoid(self.gate).to(dtype) * self.project(found)

    def rows(
        self, tokens: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"]
    ) -> Int[Tensor, "batch time 4"]:
        """The row of the joint table that each hash points at."""
        c, (p, _), (pp, _) = tokens.long(), preceding(tokens, starts, 1), preceding(tokens, starts, 2)
        hashes = [
            1009 * p + c,
            (2719 * p + 314159) ^ (3137 * c),
            (36313 * pp) ^ (27191 * p) ^ (4903 * c),
            (7919 * pp) ^ (4391 * p) ^ (6151 * c),
        ]
        return torch.stack([h % self.buckets + i * self.buckets for i, h in enumerate(hashes)], dim=2)
