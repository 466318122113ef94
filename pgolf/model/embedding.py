"""The token table, tied: it embeds the input and, transposed, makes the logits.

Initialized N(0, init_std^2). With the usual 0.005 and an Adam rate of 0.03-0.05 the loss rises at the
second step and recovers within ten; that is normal (PR 1855's log shows it).
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.model.roles import Role
from pgolf.section import Section


class Embedding(Section):
    init_std: float = Field(0.005, gt=0)

    def build(self, vocab_size: int, width: int) -> "EmbeddingModule":
        return EmbeddingModule(vocab_size, width, self.init_std)


class EmbeddingModule(nn.Module):
    ROLES = {"weight": Role.EMBEDDING}

    def __init__(self, vocab_size: int, width: int, init_std: float) -> None:
        super().__init__()
        self.init_std = init_std
        self.weight = nn.Parameter(torch.empty(vocab_size, width))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, std=self.init_std, generator=generator)

    def forward(self, tokens: Int[Tensor, "batch time"], dtype: torch.dtype) -> Float[Tensor, "batch time d"]:
        return F.embedding(tokens, self.weight).to(dtype)

    def logits(self, x: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch time vocab"]:
        return F.linear(x, self.weight.to(x.dtype))
