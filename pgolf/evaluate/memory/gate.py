"""When a hint is worth its price, and how far to tilt towards it.

A tilt by beta towards hint h, of which the distribution below says q = p(h), and which is right with probability r:

    p'(a) = p(a) e^(beta [a = h]) / Z      Z = 1 + q (e^beta - 1)
    expected gain, nats                    g = r beta - ln Z
    the best tilt                          beta = logit r - logit q, of gain KL(r || q)

Several hints at one target, of which one at most is right, are tilted together (Z is a sum over them):

    the best tilts                         beta_i = ln(r_i / q_i) - ln((1 - sum r) / (1 - sum q))
    expected gain                          g = sum r_i beta_i - ln(1 + sum q_i (e^beta_i - 1))

again a KL divergence, that of which hint comes, or none. One hint is the case above.

So no confidence is worth anything by itself: at beta 2.625 a hint that is right four times of five loses where the
network gives it more than 0.56 already. The records' gate (`confidence`) does not look at q, `odds` does, and
`learned` also learns from hits and misses what r is, so that it acts on gain that it has reason to expect.
None looks at the target: r, q and beta are settled when the block is asked for.

What is learned is a logistic regression of the hit on what is known of the proposal. It is told score first, and its
posterior (Laplace: a Gaussian around the optimum) is the prior of the next telling, so that it needs no rate.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pgolf.evaluate.memory.grams import Array
from pgolf.section import Section

Floats = NDArray[np.float64]
CONF, TOTAL, LENGTH, Q, ENTROPY = range(5)  # columns of what is known of a proposal; q as log-odds
NEWTON_STEPS = 3
MOST_TOGETHER = 1 - 1e-6  # probability that one of a target's several hints is right, at most
LEAST_LEFT = 1e-13  # probability that is left to other tokens, at least
OWN_TRUST = 200.0  # proposals' worth of shared experience that a document's own is weighed against


class Judge:
    """A gate at work; one that learns nothing."""

    def forget(self) -> None:
        """A stream begins."""

    def open(self, slots: int) -> None:
        """Documents begin."""

    def tell(self, known: Floats, hits: Floats, owner: Array) -> None:
        """Whether proposals [n, 5] of open documents (by slot) were right."""

    def share(self, known: Floats, hits: Floats) -> None:
        """The same of a round, on all ranks."""

    def rates(self, known: Floats, owner: Array) -> Floats:
        """How likely each proposal is right."""
        return known[:, CONF]

    def betas(self, known: Floats, rates: Floats, rows: Array | None = None) -> Floats:
        """How far to tilt; 0 where the gate is shut. Hints of one row are of one target; None: each of its own."""
        raise NotImplementedError


class Confidence(Section):
    """The records' gate (PR 2018 and later): one tilt for whatever is confident enough."""

    kind: Literal["confidence"] = "confidence"
    threshold: float = Field(0.8, gt=0, le=1)
    beta: float = Field(2.625, gt=0)

    def build(self) -> "ConfidenceJudge":
        return ConfidenceJudge(self)


class ConfidenceJudge(Judge):
    def __init__(self, section: Confidence) -> None:
        self.threshold, self.beta = section.threshold, section.beta

    def betas(self, known: Floats, rates: Floats, rows: Array | None = None) -> Floats:
        return np.where(rates >= self.threshold, self.beta, 0.0)


class Odds(Section):
    """beta = shrink (logit r - logit q), r the share of the context's occurrences with `prior` more as the network has
    it: a context that occurred once moves the odds little."""

    kind: Literal["odds"] = "odds"
    shrink: float = Field(0.7, gt=0, le=1)
    beta_max: float = Field(4.0, gt=0)
    negative: bool = False  # whether a hint may be tilted away from
    prior: float = Field(1.0, gt=0)  # occurrences that the network counts for

    def build(self) -> "OddsJudge":
        return OddsJudge(self.shrink, self.beta_max, self.negative, self.prior)


class OddsJudge(Judge):
    def __init__(self, shrink: float, beta_max: float, negative: bool, prior: float) -> None:
        self.shrink, self.most, self.prior = shrink, beta_max, prior
        self.least = -beta_max if negative else 0.0

    def rates(self, known: Floats, owner: Array) -> Floats:
        q = expit(known[:, Q])
        return (known[:, CONF] * known[:, TOTAL] + self.prior * q) / (known[:, TOTAL] + self.prior)

    def betas(self, known: Floats, rates: Floats, rows: Array | None = None) -> Floats:
        target = of_targets(known, rows)
        return self.tilts(known, joint(rates, target), target)

    def tilts(self, known: Floats, rates: Floats, target: Array) -> Floats:
        """The best ones for joint rates, shrunk and cut off."""
        others = left_by(rates, target) - left_by(expit(known[:, Q]), target)
        return np.clip(self.shrink * (logit(rates) - known[:, Q] + others), self.least, self.most)


class Learned(Section):
    """r by a logistic regression that learns online; acts where the expected gain is more than `least_gain`."""

    kind: Literal["learned"] = "learned"
    shrink: float = Field(1.0, gt=0, le=1)
    beta_max: float = Field(6.0, gt=0)
    negative: bool = True
    least_gain: float = Field(1e-3, ge=0)  # nats
    trust: float = Field(20.0, gt=0)  # proposals that the first guess of r is worth

    def build(self) -> "LearnedJudge":
        return LearnedJudge(self)


class LearnedJudge(OddsJudge):
    def __init__(self, section: Learned) -> None:
        super().__init__(section.shrink, section.beta_max, section.negative, 1.0)
        self.least_gain, self.trust = section.least_gain, section.trust
        self.forget()

    def forget(self) -> None:
        self.shared = Logistic(1, self.trust)
        self.own = self.shared

    def open(self, slots: int) -> None:
        self.own = self.shared.copied(slots)

    def tell(self, known: Floats, hits: Floats, owner: Array) -> None:
        self.own.tell(features(known), hits, owner)

    def share(self, known: Floats, hits: Floats) -> None:
        self.shared.tell(features(known), hits, np.zeros(len(hits), dtype=np.int64))

    def rates(self, known: Floats, owner: Array) -> Floats:
        return self.own.rates(features(known), owner)

    def tilts(self, known: Floats, rates: Floats, target: Array) -> Floats:
        betas = super().tilts(known, rates, target)
        return np.where(gain(rates, expit(known[:, Q]), betas, target) > self.least_gain, betas, 0.0)


Gate = Annotated[Confidence | Odds | Learned, Field(discriminator="kind")]


class Logistic:
    """Logistic regressions, one a slot: P(hit) = sigmoid(x w), w ~ N(mean, precision^-1)."""

    GUESS = (0.0, 0.5, 0.0, 0.0, 0.5, 0.0)  # half way between the memory's odds and the network's

    def __init__(self, slots: int, trust: float) -> None:
        width = len(self.GUESS)
        self.mean = np.tile(np.array(self.GUESS), (slots, 1))
        # 1/4: what a proposal tells at most
        self.precision = np.tile(np.eye(width) * trust / 4, (slots, 1, 1))
        self.told = 0

    def copied(self, slots: int) -> "Logistic":
        """The first one's experience for new documents, to which their own counts more."""
        new = Logistic(slots, 1.0)
        share = min(1.0, OWN_TRUST / max(self.told, 1))
        new.mean, new.precision = (np.repeat(x[:1], slots, 0) for x in (self.mean, self.precision * share))
        return new

    def rates(self, x: Floats, owner: Array) -> Floats:
        return expit((x * self.mean[owner]).sum(1))

    def tell(self, x: Floats, hits: Floats, owner: Array) -> None:
        """The posterior after these, by Newton's method from the prior; slots that were told nothing stay."""
        self.told += len(hits)
        used, owner = np.unique(owner, return_inverse=True)
        mean, prior = self.mean[used], self.precision[used]
        at = mean
        for _ in range(NEWTON_STEPS):
            p = expit((x * at[owner]).sum(1))
            curved = x[:, :, None] * x[:, None, :] * (p * (1 - p))[:, None, None]
            slope = np.einsum("sij,sj->si", prior, mean - at)
            np.add.at(slope, owner, x * (hits - p)[:, None])
            curvature = prior.copy()
            np.add.at(curvature, owner, curved)
            at = at + np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
        self.mean[used], self.precision[used] = at, curvature


def features(known: Floats) -> Floats:
    """[n, 6] of order one: a constant, the odds of the share, count, length, the network's odds, its entropy."""
    right = known[:, CONF] * known[:, TOTAL]
    columns = (
        np.ones(len(known)),
        np.log((right + 0.5) / (known[:, TOTAL] - right + 0.5)),
        np.log1p(known[:, TOTAL]) - 1,
        np.log2(np.maximum(known[:, LENGTH], 1)) - 2,
        known[:, Q].clip(-12, 12),
        known[:, ENTROPY] - 2,
    )
    return np.stack(columns, axis=1)


def gain(rates: Floats, q: Floats, betas: Floats, target: Array | None = None) -> Floats:
    """Nats that a tilt, or all of a target's, are expected to gain."""
    won, z = rates * betas, q * np.expm1(betas)
    if target is not None:
        won, z = summed(won, target), summed(z, target)
    out: Floats = won - np.log1p(z)
    return out


def of_targets(known: Floats, rows: Array | None) -> Array:
    """Which hints are of one target: numbers from 0 on."""
    return np.arange(len(known)) if rows is None else np.unique(rows, return_inverse=True)[1]


def summed(x: Floats, target: Array) -> Floats:
    """For every hint the sum over its target's hints."""
    sums = np.zeros(len(x))
    np.add.at(sums, target, x)
    return sums[target]


def joint(rates: Floats, target: Array) -> Floats:
    """Rates of which one at most can be right: where a target's, learned one by one, add up to more, all are cut."""
    whole, alone = summed(rates, target), np.bincount(target)[target] == 1
    return np.where(alone, rates, rates * np.minimum(1.0, MOST_TOGETHER / whole))


def left_by(p: Floats, target: Array) -> Floats:
    """ln((1 - p_i) / (1 - sum p)), what the other hints of a hint's target take of its complement; alone 0."""
    alone, all_ = (np.maximum(1 - x, LEAST_LEFT) for x in (p, summed(p, target)))
    out: Floats = np.log(alone / all_)
    return out


def expit(x: Floats) -> Floats:
    out: Floats = 1 / (1 + np.exp(-np.clip(x, -40, 40)))
    return out


def logit(p: Floats) -> Floats:
    p = np.clip(p, 1e-13, 1 - 1e-13)
    out: Floats = np.log(p) - np.log1p(-p)
    return out
