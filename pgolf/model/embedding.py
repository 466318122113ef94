"""The token table, tied: it embeds the input and, transposed, makes the logits.

Initialized N(0, init_std^2). With the usual 0.005 and an Adam rate of 0.03-0.05 the loss rises at the
second step and recovers within ten; that is normal (PR 1855's log shows it). `factored` makes the table
narrower than the stream, `overtone` gives it a falling spectrum to begin with.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.factored_embedding import FactoredEmbedding
from pgolf.model.linear import Linear
from pgolf.model.overtone import Overtone
from pgolf.model.roles import Role
from pgolf.section import Section


class Embedding(Section):
    init_std: float = Field(0.005, gt=0)

    overtone: Overtone | None = None
    factored: FactoredEmbedding | None = None

    def build(self, vocab_size: int, width: int) -> "EmbeddingModule":
        return EmbeddingModule(vocab_size, width, self.init_std, self.overtone, self.factored)


class EmbeddingModule(nn.Module):
    ROLES = {"weight": Role.EMBEDDING}

    def __init__(
        self, vocab_size: int, width: int, init_std: float, overtone: Overtone | None = None,
        factored: FactoredEmbedding | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.init_std, self.overtone = init_std, overtone
        self.weight = nn.Parameter(torch.empty(vocab_size, factored.rank if factored else width))
        self.into: Linear | None = None
        self.out: Linear | None = None
        if factored is not None:
            self.into, self.out = factored.build(width)

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, std=self.init_std, generator=generator)
        if self.overtone is not None:
            self.overtone.shape(self.weight)

    def forward(self, tokens: Int[Tensor, "batch time"], dtype: torch.dtype) -> Float[Tensor, "batch time d"]:
        x = F.embedding(tokens, self.weight).to(dtype)
        return x if self.into is None else self.into(x)

    def logits(self, x: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch time vocab"]:
        return F.linear(x if self.out is None else self.out(x), self.weight.to(x.dtype))
