"""BigramHash: a small table looked up by a hash of the last two tokens, added to the embedding.

    bucket_t = (36313 t_i XOR 27191 t_{i-1}) mod (buckets - 1)      at a document's first token: buckets - 1
    e_i <- e_i + s P T[bucket]        T [buckets, rank] = 0, s = 0.05: nothing at the start

It is added before the embedding's norm, and before a smear. `trigram` adds a second look-up in the same table,
(36313 t_i XOR 27191 t_{i-1} XOR 51497 t_{i-2}) mod (buckets - 1), the last bucket at a document's first two
tokens. P is orthogonal: the scripts declared it zero, their global initialization overwrote that, and rightly,
since with T = 0 and P = 0 neither would ever move.

PR 65, 162, 198 to 1019: -0.002 to -0.004 BPB at 1024 tokens, nothing from 4096 on (PR 1218); the shared
trigram was worse. Historic code hashed across documents; this one cannot.
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

CURRENT, PREVIOUS, BEFORE_PREVIOUS = 36313, 27191, 51497


class BigramHash(Section):
    kind: Literal["bigram_hash"] = "bigram_hash"
    buckets: int = Field(2048, ge=2)  # rows of the table, the reserved last one included
    rank: int = Field(128, ge=1)  # columns of the table
    scale: float = 0.05  # initial s
    trigram: bool = False

    def build(self, width: int) -> "BigramHashModule":
        return BigramHashModule(width, self.buckets, self.rank, self.scale, self.trigram)


class BigramHashModule(nn.Module):
    ROLES = {"table": Role.TABLE, "scale": Role.CONTROL}

    def __init__(self, width: int, buckets: int, rank: int, scale: float, trigram: bool) -> None:
        super().__init__()
        self.initial_scale, self.trigram = scale, trigram
        self.table = nn.Parameter(torch.empty(buckets, rank))
        self.project = Linear(rank, width, Role.PROJECTION)
        self.scale = nn.Parameter(torch.empty(()))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.table)
        nn.init.constant_(self.scale, self.initial_scale)

    def forward(
        self, tokens: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"], dtype: torch.dtype
    ) -> Float[Tensor, "batch time d"]:
        """What is added to the embedding of every position."""
        rows = self.buckets(tokens, starts)
        found = torch.stack([F.embedding(row, self.table) for row in rows]).sum(0).to(dtype)
        return self.scale.to(dtype) * self.project(found)

    def buckets(
        self, tokens: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"]
    ) -> list[Int[Tensor, "batch time"]]:
        """The rows looked up: by pairs, and by triples where they are on."""
        reserved = len(self.table) - 1
        one, no_one = preceding(tokens, starts, 1)
        pair = (CURRENT * tokens.long()) ^ (PREVIOUS * one)
        out = [(pair % reserved).masked_fill(no_one, reserved)]
        if self.trigram:
            two, no_two = preceding(tokens, starts, 2)
            out.append(((pair ^ (BEFORE_PREVIOUS * two)) % reserved).masked_fill(no_two, reserved))
        return out
