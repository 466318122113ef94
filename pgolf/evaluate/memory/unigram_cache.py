"""A bias on the output: tokens that came more often than the network expected become likelier.

    p'(a) ~ p(a) e^(b_a)        b_a = strength ln(1 + c_a)  +  rate sum over scored targets of ([a came] - p'(a))

c counts the tokens that came; the second part is gradient descent on a bias of the whole vocabulary, a step for every
block that was observed (PR 384). Both stand at zero where a document begins, or where documents are shared at what the
rounds before added up to. Counts of a round are of all its documents; its gradients of those blocks that were
observed, which blocks of a stream never are.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.evaluate.memory.grams import Array
from pgolf.evaluate.memory.remembering import Hints, MemorySection
from pgolf.evaluate.memory.trust import Balance, Trust, Trusting
from pgolf.evaluate.predictor import Ask, Predictor, Scored
from pgolf.section import RuleBroken


class UnigramCache(MemorySection):
    kind: Literal["unigram_cache"] = "unigram_cache"
    strength: float = Field(0.0, ge=0)  # of counts
    rate: float = Field(0.02, ge=0)  # of the gradient
    gate: Trust | None = Trust()

    @model_validator(mode="after")
    def _has_a_bias(self) -> "UnigramCache":
        if not self.strength and not (self.rate and self.document):
            raise RuleBroken(
                "a unigram cache counts (strength), or descends on what it observes (rate, of documents)",
                f"strength={self.strength}, rate={self.rate}, document={str(self.document).lower()}",
                "strength=0.1",
            )
        return self

    def over(self, base: Predictor) -> "UnigramCachePredictor":
        return UnigramCachePredictor(self, base)


class UnigramCachePredictor(Trusting):
    def __init__(self, section: UnigramCache, base: Predictor) -> None:
        super().__init__(section, base)
        self.strength, self.rate = section.strength, section.rate
        self.balance = Balance.of(section.gate, 1)

    def forget(self) -> None:
        super().forget()
        self.counts = torch.zeros(1, 1, dtype=torch.float64)  # [slots + 1, vocab], the last is shared
        self.excess = torch.zeros(1, 1, dtype=torch.float64)  # sum of [a came] - p'(a)
        self.gathered = torch.zeros(1, dtype=torch.float64)  # of this round

    def opened(self) -> None:
        super().opened()
        self.counts, self.excess = (
            torch.cat([x.new_zeros(self.slots, x.shape[1]), x[-1:]]) for x in (self.counts, self.excess)
        )

    def believed(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        vocab = below.shape[1]
        if self.counts.shape[1] < vocab:
            self.counts, self.excess = (_widened(x, vocab) for x in (self.counts, self.excess))
        counts, excess = self.counts[-1:], self.excess[-1:]
        if ask.slots:
            counts, excess = (x[list(ask.slots)] + x[-1:] for x in (self.counts, self.excess))
        bias = self.strength * counts.log1p() + self.rate * excess
        wanted = torch.tensor(ask.wanted if ask.slots else [ask.targets])
        bias = bias.repeat_interleave(wanted, 0).to(below.device)
        self.biases = bias
        made = (below + bias).log_softmax(1)
        if not ask.growing:
            self.sums = torch.stack([part.exp().sum(0) for part in made.split(ask.wanted)]).cpu()
        return made

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        super().tell(ask, targets)
        slots = torch.tensor(ask.slots)
        came = torch.zeros_like(self.counts)
        at = slots.repeat_interleave(torch.tensor(ask.wanted))
        came.index_put_((at, targets.cpu()), torch.ones(1, dtype=came.dtype), accumulate=True)
        excess = came.index_add(0, slots, self.sums, alpha=-1)
        self.counts, self.excess = self.counts + came, self.excess + excess
        if self.share:
            self.gathered = _widened(self.gathered, excess.shape[1]) + excess.sum(0)

    def share_out(self, scored: Scored) -> None:
        super().share_out(scored)
        came = torch.cat([piece[1:] for piece in scored.pieces]).bincount().double()
        parts = [torch.from_numpy(np.asarray(x)) for x in self.ranks.gather(self.gathered.numpy())]
        vocab = max(len(x) for x in (came, *parts, self.counts[-1]))
        self.counts = _widened(self.counts[-1:], vocab) + _widened(came, vocab)
        self.excess = _widened(self.excess[-1:], vocab) + sum(_widened(x, vocab) for x in parts)
        self.gathered = torch.zeros(1, dtype=torch.float64)

    def sureness(self, ask: Ask) -> Array:
        """One bucket for all, once there is a bias."""
        return (self.biases != 0).any(1).cpu().numpy().astype(np.int64) - 1

    def shown(self) -> Hints:
        """The token of the largest bias."""
        bias, token = (x.cpu().numpy() for x in self.biases.max(1))
        rows = np.flatnonzero(bias > 0)
        none = np.zeros(len(rows), dtype=np.int64)
        return Hints(rows, token[rows], np.zeros(len(rows)), none, none, none, none - 1)


def _widened(x: Float[Tensor, "*rows n"], vocab: int) -> Float[Tensor, "*rows vocab"]:
    """Zeros for tokens that were not heard of."""
    return torch.cat([x, x.new_zeros(*x.shape[:-1], vocab - x.shape[-1])], dim=-1)
