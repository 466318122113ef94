"""The one scorer: it owns the targets, asks a predictor for distributions, and adds up.

    bpb = (sum of nll / ln 2) / (sum of bytes), both over exactly the same targets, in float64

A predictor answers with log-probabilities of every token; the scorer looks the target up afterwards, writes the
score down, and only then may anyone learn it. It adds up every distribution it is given: how far the sums are from
one is part of the answer, and so is the ledger. `Scores.verify` holds both to the rules.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgolf.errors import Infeasible, InfeasibleTrial, UnlawfulScore
from pgolf.evaluate.drive import Pass, Progress, extent_of, starts_of, targets_of
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Ask, Extent, Predictor
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.formats.ledger import Audit, Events, audit, windows_of
from pgolf.formats.shards import Tokens

MOST_SUM_ERROR = 1e-6  # of a distribution's sum from one

Noted = Callable[[Ask, Tensor], None]  # told a block's targets once their scores are written: for logs


@dataclass(frozen=True)
class Scores:
    """What scoring a stream came to."""

    nll: NDArray[np.float64]  # [tokens], nats; entry 0 is unscored
    events: Events  # the ledger
    extent: Extent
    tokens: int  # targets scored
    bytes: int  # of text they stand for
    sum_error: float  # most that a distribution's sum was away from one
    score_seconds: float
    adapt_seconds: float

    @property
    def windows(self) -> NDArray[np.int64]:
        """[n, 3] (context, begin, end), in the order of scoring."""
        return windows_of(self.events)

    @property
    def nats_per_token(self) -> float:
        return math.fsum(self.nll) / self.tokens

    @property
    def bpb(self) -> float:
        return math.fsum(self.nll) / math.log(2) / self.bytes

    def audit(self) -> Audit:
        return audit(self.events, self.extent.tokens, self.extent.starts)

    def verify(self, outside_rules: bool = False) -> "Scores":
        """These scores, if they are any.

        Args:
            outside_rules: of a mode that is declared to be so, which nothing ranks: sums may be what they are.

        Raises:
            UnlawfulScore: if the ledger breaks a rule or a distribution does not sum to one.
            InfeasibleTrial: if adaptation diverged: a distribution is not a number.
        """
        if not (held := self.audit()).holds:
            raise UnlawfulScore(f"{held.rule}: {held.broken}")
        if math.isnan(self.sum_error):
            raise InfeasibleTrial(Infeasible(reason="diverged", measured=None, limit=MOST_SUM_ERROR))
        if not self.sum_error <= MOST_SUM_ERROR and not outside_rules:
            raise UnlawfulScore(f"L3: a distribution's sum is {self.sum_error:.3g} away from one")
        return self

    def metrics(self) -> Mapping[str, float]:
        return {
            "bpb": self.bpb,
            "val_tokens": self.tokens,
            "val_bytes": self.bytes,
            "nats_per_token": self.nats_per_token,
        }


def score(
    predictor: Predictor, tokens: Tokens, counts: Tokens, mode: Mode, ranks: Ranks = ALONE,
    progress: Progress | None = None, noted: Noted | None = None,
) -> Scores:  # fmt: skip
    """Score every target of a stream exactly once. With several ranks all have the whole answer; clocks
    are a rank's own.

    Args:
        tokens: the stream, documents beginning with BOS.
        counts: bytes each token stands for; a document's sum is its length.

    Raises:
        ValueError: if the stream has nothing to score, or no bytes to divide by.
    """
    if len(tokens) < 2 or not int(counts[1:].sum(dtype=np.int64)):
        raise ValueError(
            f"a stream of {len(tokens)} tokens and {int(counts.sum())} bytes has nothing to score"
        )
    extent, rounds = extent_of(starts_of(tokens), len(tokens), predictor, mode, ranks.size)
    stream = torch.from_numpy(tokens.astype(np.int64))
    nll, sum_error = np.zeros(len(tokens), dtype=np.float64), 0.0

    def visit(ask: Ask) -> Ask:
        nonlocal sum_error
        answers = predictor.log_probs(ask)
        targets = targets_of(stream, ask).to(answers.device)
        with torch.no_grad():
            found = answers.gather(1, targets.unsqueeze(1)).squeeze(1)
            error = answers.logsumexp(1).expm1().abs().max()
        nll[ask.positions()] = -found.cpu().numpy()
        sum_error = float(np.maximum(sum_error, float(error)))  # keeps a NaN
        if noted is not None:
            noted(ask, targets)
        return ask

    made = Pass(predictor, extent, rounds, ranks, progress)
    made.run(stream, visit)
    parts = ranks.gather((nll, made.ledger.events(), sum_error))
    return Scores(
        nll=np.sum([part[0] for part in parts], axis=0),  # type: ignore[index]
        events=_in_order([part[1] for part in parts]),  # type: ignore[index]
        extent=extent,
        tokens=len(tokens) - 1,
        bytes=int(counts[1:].sum(dtype=np.int64)),
        sum_error=float(np.max([part[2] for part in parts])),  # type: ignore[index]
        score_seconds=made.scoring.seconds,
        adapt_seconds=made.adapting.seconds,
    )


def _in_order(parts: list[Events]) -> Events:
    """All ranks' events, as their clocks run; what all ranks learned is one rank's to tell."""
    whole = np.concatenate(parts)
    return whole[np.lexsort((whole[:, 2], whole[:, 1], whole[:, 0]))]
