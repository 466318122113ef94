"""How far a memory is believed: a mixture of what is below and what the memory made of it, weighed by what each cost.

    p' = (1 - w) p_below + w p_memory          log-odds of w += ln p_memory(y) - ln p_below(y)

for every scored target y, so that the log-odds are the memory's realized marginal price: w is the posterior
probability that the memory is the better of two experts. Between two targets the question is put anew with
probability s (`share_rate`), from the first `belief` b:

    w <- (1 - s) w + s b

the fixed share of Herbster and Warmuth (1998), which turns back after as many nats as ln(1 / s) and never shuts for
good. A convex combination of distributions is one, whatever w is. Told target by target, a memory that is worth
nothing costs -ln(1 - b) and s b for every target, at most; one that is worth something costs -ln(b) and
s (1 - b).

There is a weight for every bucket of the memory's own sureness, which is known before the target. In a block w is
what it was when the block was asked for. Documents start from the shared weights, which go over the rounds where
documents are shared, from block to block in the order of the stream. Blocks that are never observed (a stream's, and
documents' that are not remembered) are shared but for their last target, the one that is not among their own inputs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from pgolf.evaluate.memory.gate import Floats
from pgolf.evaluate.memory.grams import Array, tensor
from pgolf.evaluate.memory.remembering import Remembering
from pgolf.evaluate.predictor import Ask, Scored
from pgolf.section import Section

LEAST_LOG_P = -700.0  # nats: below it a price is not counted on


class Trust(Section):
    """Whether the memory or what is below is believed, learned from what each said of scored targets."""

    belief: float = Field(0.7, gt=0, lt=1)  # probability that the memory is the better one, at first
    share_rate: float = Field(0.003, gt=0, lt=1)  # probability that it is asked anew after a target


class Balance:
    """Weights of a memory [slots, buckets], and the shared ones."""

    def __init__(self, section: Trust, buckets: int) -> None:
        self.belief, self.buckets = section.belief, buckets
        anew = np.array([[section.belief], [1 - section.belief]])
        self.turn = (1 - section.share_rate) * np.eye(2) + section.share_rate * anew

    @staticmethod
    def of(gate: Trust | None, buckets: int) -> "Balance | None":
        """None: the memory is always believed."""
        return None if gate is None else Balance(gate, buckets)

    def forget(self) -> None:
        self.shared = np.full((1, self.buckets), self.belief)
        self.own = self.shared
        self.round: list[tuple[Array, Array, Floats]] = []  # places, buckets and prices

    def open(self, slots: int) -> None:
        self.own = self.shared.repeat(max(slots, 1), 0)  # a stream's text is owned by the first

    def weights(self, owner: Array, bucket: Array) -> Floats:
        """Of targets of open documents (by slot); 0 where the memory has nothing to say (bucket -1)."""
        return np.where(bucket < 0, 0.0, self.own[owner, bucket])

    def tell(self, owner: Array, bucket: Array, prices: Floats) -> None:
        """What the memory gained at targets of open documents, nats."""
        self.own = self._moved(self.own, owner * self.buckets + bucket, bucket, prices)

    def keep(self, places: Array, bucket: Array, prices: Floats) -> None:
        """Until the round is over."""
        self.round.append((places, bucket, prices))

    def share(self, ranks: Sequence[object]) -> None:
        """What every rank kept. What was kept twice, because its block was asked for again, counts once."""
        parts = [part for kept in ranks for part in kept]  # type: ignore[attr-defined]
        self.round = []
        if parts:
            places, bucket, prices = (np.concatenate(of) for of in zip(*parts, strict=True))
            once = np.unique(places, return_index=True)[1]
            self.shared = self._moved(self.shared, bucket[once], bucket[once], prices[once])

    def _moved(self, w: Floats, chains: Array, bucket: Array, prices: Floats) -> Floats:
        said = bucket >= 0
        out = w.copy()
        used = np.unique(chains[said])
        out.flat[used] = after(w.flat[used], chains[said], prices[said], self.turn)
        return out


def after(w: Floats, chains: Array, prices: Floats, turn: Floats) -> Floats:
    """The weights of chains, in ascending order, after prices [n] of targets, which come in the order of each chain.

    A target takes the weights of the two experts through a matrix: the price, then the share (`turn`). Neighbours'
    matrices are multiplied in pairs, so that n targets take log2 n steps.
    """
    order = np.argsort(chains, kind="stable")
    chains, prices = chains[order], prices[order]
    paid = np.exp(np.minimum(np.stack([prices, -prices], axis=1), 0.0))
    steps = turn * paid[:, None, :]
    while (late := (np.arange(len(chains)) - np.searchsorted(chains, chains)) % 2 == 1).any():
        at = np.flatnonzero(late)
        pairs = steps[at] @ steps[at - 1]
        steps[at - 1] = pairs / pairs.sum((1, 2), keepdims=True)
        steps, chains = steps[~late], chains[~late]
    both = steps[:, :, 0] * w[:, None] + steps[:, :, 1] * (1 - w[:, None])
    out: Floats = both[:, 0] / both.sum(1)
    return out


class Trusting(Remembering):
    """A subclass says what it believes itself, and how sure it is; it stands behind what else the memory is."""

    balance: Balance | None  # None: it is always believed

    def believed(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        """The memory's own distributions."""
        raise NotImplementedError

    def sureness(self, ask: Ask) -> Array:
        """[targets] the bucket of each, -1 where the memory leaves what is below alone."""
        raise NotImplementedError

    def mix(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        made = self.believed(ask, below)
        if self.balance is None:
            return made
        self.below, self.made, self.bucket = below, made, self.sureness(ask)
        self.owner = ask.owners
        self.w = self.balance.weights(self.owner, self.bucket)
        if self.share and not (self.document and ask.slots):
            self._keep(ask, *known_targets(ask))
        w = tensor(self.w, below).unsqueeze(1)
        mixed = torch.logaddexp(below + torch.log1p(-w), made + w.log())
        return torch.where(w > 0, mixed, below)

    def forget(self) -> None:
        super().forget()
        if self.balance is not None:
            self.balance.forget()

    def opened(self) -> None:
        super().opened()
        if self.balance is not None:
            self.balance.open(self.slots)

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        super().tell(ask, targets)
        if self.balance is not None:
            everything = np.arange(ask.targets)
            self.balance.tell(self.owner, self.bucket, self._prices(everything, targets))
            if self.share:
                self._keep(ask, everything, targets)

    def share_out(self, scored: Scored) -> None:
        super().share_out(scored)
        if self.balance is not None:
            self.balance.share(self.ranks.gather(self.balance.round))

    def weighed(self) -> tuple[Float[Tensor, "targets vocab"], Floats]:
        return super().weighed() if self.balance is None else (self.made, self.w)

    def _keep(self, ask: Ask, rows: Array, targets: Int[Tensor, " rows"]) -> None:
        assert self.balance is not None
        self.balance.keep(ask.positions()[rows], self.bucket[rows], self._prices(rows, targets))

    def _prices(self, rows: Array, targets: Int[Tensor, " rows"]) -> Floats:
        """What the memory gained at some of the targets asked for."""
        at = tensor(rows, self.made), targets.to(self.made.device)
        own, other = (x[at].clamp_min(LEAST_LOG_P) for x in (self.made, self.below))
        return (own - other).cpu().numpy()


def known_targets(ask: Ask) -> tuple[Array, Int[Tensor, " rows"]]:
    """Which of the targets asked for are inputs of their own block, all but each row's last, and what they are."""
    first = np.cumsum([0, *ask.wanted])
    rows = np.concatenate([np.arange(a, a + n - 1) for a, n in zip(first, ask.wanted, strict=False)])
    ends = zip(ask.tokens, ask.lengths, ask.wanted, strict=True)
    return rows, torch.cat([row[end - count + 1 : end] for row, end, count in ends])
