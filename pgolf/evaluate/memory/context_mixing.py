"""A mixture of experts whose weights are learned online (Hedge; PAQ's context mixing, of normalized distributions).

Experts are what is below, the relative frequencies after contexts of each length, those of the whole document (a
unigram), and the token that followed the longest match. Those that have something to say at a target share it by

    w = softmax(theta[expert, bucket])        p = sum of w_k p_k

where an expert's bucket says how sure it is: how often its context was seen and how much of it the most frequent
follower has, the match's length, for the network its entropy. A block that was observed moves every expert that took
part by the gradient of the log-likelihood, posterior share minus weight, summed and divided by the root of how often
its bucket was used:

    theta += rate sum(w_k p_k(x) / p(x) - w_k) / sqrt(n)

so that a mixture of distributions stays one whatever the weights are. Documents start from the shared weights, which
earlier rounds have moved by the same rule where documents are shared. Blocks of a stream are never observed: there
the weights stay as given.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.evaluate.memory.backoff import COUNTS, Counting
from pgolf.evaluate.memory.gate import Floats
from pgolf.evaluate.memory.grams import Followers, tensor
from pgolf.evaluate.memory.match_model import longest
from pgolf.evaluate.memory.remembering import MemorySection
from pgolf.evaluate.memory.token_tilt import check_orders
from pgolf.evaluate.predictor import Ask, Predictor, Scored

SHARES = (0.5, 0.9)  # where buckets of an expert's share end
ENTROPIES = (0.5, 1.0, 2.0, 3.0, 4.0)  # nats, of the network
BUCKETS = (len(COUNTS) + 1) * (len(SHARES) + 1)


class ContextMixing(MemorySection):
    kind: Literal["context_mixing"] = "context_mixing"
    orders: tuple[int, ...] = (2, 3, 4, 6)  # tokens of a context
    unigram: bool = True
    match: bool = True  # the longest of the contexts, and what followed it last
    rate: float = Field(0.3, gt=0)
    lead: float = Field(2.0, ge=0)  # of the network over every other expert, as theta

    @model_validator(mode="after")
    def _has_orders(self) -> "ContextMixing":
        check_orders(self.orders)
        return self

    def over(self, base: Predictor) -> "ContextMixingPredictor":
        return ContextMixingPredictor(self, base)


class ContextMixingPredictor(Counting):
    """Expert 0 is the network, then the contexts from the longest on, then the match."""

    def __init__(self, section: ContextMixing, base: Predictor) -> None:
        orders = (*([0] if section.unigram else []), *section.orders)
        super().__init__(section, base, orders)
        self.match, self.rate = section.match, section.rate
        self.first = np.full((1, 1 + len(orders) + self.match, BUCKETS), -section.lead)
        self.first[:, 0] = 0.0

    def forget(self) -> None:
        super().forget()
        self.shared = self.own = self.first
        self.times = self.used = np.zeros_like(self.first)  # of every bucket: in all rounds, in the document
        self.moved: dict[int, Floats] = {}  # document -> gradient and uses, of this round

    def opened(self) -> None:
        super().opened()
        self.own = self.shared.repeat(max(self.slots, 1), 0)
        self.used = np.zeros_like(self.own)

    def mix(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        recalled = self.recalled(ask)
        experts, buckets = [found for _, found in recalled], []
        network = below.exp()
        entropy = torch.special.entr(network).sum(1).cpu().numpy()
        buckets.append(np.searchsorted(ENTROPIES, entropy))
        for found in experts:
            totals = found.totals(ask.targets)
            most = np.zeros(ask.targets)
            np.maximum.at(most, found.rows, found.counts)
            share = np.divide(most, totals, out=np.zeros(ask.targets), where=totals > 0)
            sure = np.searchsorted(COUNTS, totals, "right") * (len(SHARES) + 1) + np.searchsorted(
                SHARES, share
            )
            buckets.append(np.where(totals > 0, sure, -1))
        if self.match:
            hints = longest([(order, found) for order, found in recalled if order > 0])
            once = np.ones(len(hints), dtype=np.int64)
            experts.append(Followers(hints.rows, hints.tokens, once, hints.last))
            length = np.full(ask.targets, -1)
            length[hints.rows] = np.minimum(np.searchsorted(self.orders, hints.length), BUCKETS - 1)
            buckets.append(length)
        self.buckets = np.stack(buckets, 1)  # [targets, experts], -1: has nothing to say
        self.owner = ask.owners
        self.weights = self._weights()
        self.frequencies = [found.counts / found.totals(ask.targets)[found.rows] for found in experts]
        self.experts = experts
        p = network * tensor(self.weights[:, 0], below).unsqueeze(1)
        for number, (found, share) in enumerate(zip(experts, self.frequencies, strict=True), 1):
            weight = self.weights[found.rows, number] * share
            p[tensor(found.rows, p), tensor(found.tokens, p)] += tensor(weight, p)
        self.network = network
        alone = tensor((self.buckets[:, 1:] < 0).all(1), p)
        return below.where(alone.unsqueeze(1), p.log())

    def _weights(self) -> Floats:
        """[targets, experts]"""
        each = np.arange(self.buckets.shape[1])
        theta = np.where(self.buckets >= 0, self.own[self.owner[:, None], each, self.buckets], -np.inf)
        w = np.exp(theta - theta.max(1, keepdims=True))
        out: Floats = w / w.sum(1, keepdims=True)
        return out

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        came = targets.cpu().numpy()
        given = np.zeros_like(self.weights)  # p_k(x)
        given[:, 0] = (
            self.network.gather(1, targets.to(self.network.device).unsqueeze(1)).squeeze(1).cpu().numpy()
        )
        for number, (found, share) in enumerate(zip(self.experts, self.frequencies, strict=True), 1):
            right = found.tokens == came[found.rows]
            given[found.rows[right], number] = share[right]
        joint = self.weights * given
        slope = joint / np.maximum(joint.sum(1, keepdims=True), 1e-300) - self.weights
        step, times = np.zeros_like(self.own), np.zeros_like(self.own)
        row, expert = np.nonzero(self.buckets >= 0)
        at = self.owner[row], expert, self.buckets[row, expert]
        np.add.at(step, at, slope[row, expert])
        np.add.at(times, at, 1.0)
        self.used = self.used + times
        self.own = self.own + self.rate * step / np.sqrt(np.maximum(self.used, 1.0))
        if self.share:
            for slot in ask.slots:
                now = np.stack([step[slot], times[slot]])
                self.moved[self.documents[slot]] = self.moved.get(self.documents[slot], 0.0) + now
        super().tell(ask, targets)

    def share_out(self, scored: Scored) -> None:
        super().share_out(scored)
        parts: dict[int, Floats] = {}
        for moved in self.ranks.gather(self.moved):
            parts.update(moved)  # type: ignore[call-overload]
        self.moved = {}
        for document in sorted(parts):  # in one order on every rank
            step, times = parts[document][:, None]
            self.times = self.times + times
            self.shared = self.shared + self.rate * step / np.sqrt(np.maximum(self.times, 1.0))
