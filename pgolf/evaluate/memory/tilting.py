"""Memories that propose tokens and tilt the distribution towards them, as far as a gate lets them."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pgolf.evaluate.memory.gate import Floats, Judge
from pgolf.evaluate.memory.grams import TOKEN_BITS, Array, tensor
from pgolf.evaluate.memory.remembering import Hints, MemorySection, Remembering, log_odds
from pgolf.evaluate.predictor import Ask, Predictor, Scored


class Tilting(Remembering):
    """A subclass says which hints it has. What a gate learns it is told when the memory is.

    Hits of a round are looked up when the round is shared: a document's last block is never observed, and a stream's
    blocks never are.
    """

    GATES = True

    def __init__(self, section: MemorySection, base: Predictor, judge: Judge) -> None:
        super().__init__(section, base)
        self.judge = judge

    def hints(self, ask: Ask) -> Hints:
        """Sorted by row."""
        raise NotImplementedError

    def learned(self, known: Floats, hits: Floats, owner: Array | None) -> None:
        """Whether proposals were right: of open documents by slot, or (None) of a round."""
        if owner is None:
            self.judge.share(known, hits)
        else:
            self.judge.tell(known, hits, owner)

    def forget(self) -> None:
        self.judge.forget()
        self.round: dict[int, tuple[Array, Array, Floats]] = {}

    def opened(self) -> None:
        self.judge.open(max(self.slots, 1))  # a stream's text is owned by the first

    def mix(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        hints = self.hints(ask)
        rows, tokens = tensor(hints.rows, below), tensor(hints.tokens, below)
        p = below[rows]
        log_q = below[rows, tokens].cpu().numpy()
        entropy = torch.special.entr(p.exp()).sum(1).cpu().numpy()
        columns = (hints.conf, hints.totals, hints.length, log_odds(log_q), entropy)
        known = np.stack([c.astype(np.float64) for c in columns], axis=1)
        owner = ask.owners[hints.rows]
        rates = self.judge.rates(known, owner)
        betas = self.judge.betas(known, rates, hints.rows)
        self.proposed, self.known, self.owner = hints.but(rates), known, owner
        if self.share:
            self._keep(ask, hints, known)
        on = betas != 0
        return tilted(below, hints.rows[on], hints.tokens[on], betas[on], log_q[on]) if on.any() else below

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        if len(hints := self.proposed):
            hits = targets.cpu().numpy()[hints.rows] == hints.tokens
            self.learned(self.known, hits.astype(np.float64), self.owner)

    def share_out(self, scored: Scored) -> None:
        parts = [part for of in self.ranks.gather(list(self.round.values())) for part in of]  # type: ignore[attr-defined]
        self.round = {}
        if not parts:
            return
        places, tokens, known = (np.concatenate(of) for of in zip(*parts, strict=True))
        order = np.unique(places << TOKEN_BITS | tokens, return_index=True)[1]
        places, tokens, known = places[order], tokens[order], known[order]
        came = np.concatenate([piece[1:].numpy() for piece in scored.pieces])
        told = np.concatenate([np.arange(begin, end) for begin, end in scored.spans])
        hits = came[np.searchsorted(told, places)] == tokens
        self.learned(known, hits.astype(np.float64), None)

    def shown(self) -> Hints:
        """The first of each target's."""
        return self.proposed.of_rows(np.unique(self.proposed.rows, return_index=True)[1])

    def _keep(self, ask: Ask, hints: Hints, known: Floats) -> None:
        """Remember proposals by their block's beginning until the round is over.

        A block that is asked for again, longer or position by position, comes to the same proposals: each counts once.
        """
        offset = np.cumsum([0, *ask.wanted])
        for row, begin in enumerate(ask.windows[:, 1].tolist()):
            mine = slice(*np.searchsorted(hints.rows, [offset[row], offset[row + 1]]))
            places = begin + hints.rows[mine] - offset[row]
            self.round[begin] = places, hints.tokens[mine], known[mine]


def tilted(
    below: Float[Tensor, "targets vocab"], rows: Array, tokens: Array, betas: Floats, log_q: Floats
) -> Float[Tensor, "targets vocab"]:
    """p(a) e^(beta of hint a) / Z in closed form; a row may have several hints, each of another token."""
    used, at = np.unique(rows, return_inverse=True)
    z = np.zeros(len(used))
    np.add.at(z, at, np.exp(log_q) * np.expm1(betas))
    out = below.clone()
    out[tensor(used, below)] -= tensor(np.log1p(z), below).unsqueeze(1)
    out[tensor(rows, below), tensor(tokens, below)] += tensor(betas, below)
    return out
