"""Multi-token prediction: further heads that predict further ahead, during training only.

    total = CE + weight * mean_k CE_k,     head k = 1 .. K:  p(t+1+k | ..t) = softmax(softcap(W_k h_t))

h is the final normalized state, W_k a matrix V x d of its own. A position counts where its target exists and
lies in the same document: no BOS among the tokens after it up to the target. CE_k is summed over those and
divided by all positions, so that a batch's loss does not depend on how it is divided. The heads are no part
of the network: they are not saved, not averaged, not deployed.

W_k begins at zero, so the first step teaches the head and the second the trunk. In PR 549 and what came of it
no optimizer held the heads; they stayed zero, sent no gradient back and only inflated the clipped norm
(https://arxiv.org/abs/2404.19737; K of 1 or 2 with weights of 0.1 to 0.2 were tried, no gain is certain).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from pgolf.formats.shards import BOS
from pgolf.model.linear import Linear
from pgolf.model.roles import Role
from pgolf.section import Section


class Mtp(Section):
    heads: int = Field(1, ge=1, le=8)
    weight: float = Field(0.1, gt=0)

    def build(self, width: int, vocab_size: int) -> "MtpHeads":
        """The heads, at zero."""
        return MtpHeads(self.heads, width, vocab_size)


class MtpHeads(nn.Module):
    def __init__(self, heads: int, width: int, vocab_size: int) -> None:
        super().__init__()
        made = [Linear(width, vocab_size, Role.HEAD, zero=True) for _ in range(heads)]
        for head in made:
            nn.init.zeros_(head.weight)
        self.heads = nn.ModuleList(made)

    def forward(
        self,
        hidden: Float[Tensor, "rows time d"],
        targets: Int[Tensor, "rows time"],
        nats_of: Callable[[Tensor, Tensor], Tensor],
    ) -> Float[Tensor, ""]:
        """The mean over heads of CE_k; `nats_of` scores raw logits [rows, time, vocab] as the network's own are."""
        time = hidden.shape[1]
        total = hidden.new_zeros((), dtype=torch.float32)
        for k, head in enumerate(self.heads, start=1):
            if k < time:
                nats = nats_of(head(hidden[:, : time - k]), targets[:, k:])
                total = total + nats.masked_fill(~same_document(targets, k), 0.0).sum()
        return total / (len(self.heads) * targets.numel())


def same_document(targets: Int[Tensor, "rows time"], ahead: int) -> Bool[Tensor, "rows fewer"]:
    """Whether the token `ahead` + 1 after each position exists and no document begins before it or at it."""
    ordinary = targets != BOS
    return ordinary.unfold(1, ahead + 1, 1).all(dim=-1)
