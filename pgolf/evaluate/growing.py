"""The network as a predictor that is asked one position at a time, as the arithmetic coder asks.

What a row's earlier positions were executed to is kept (pgolf.model.cache) for as long as it holds: until the
window moves, somebody learns, or documents end. A block of 32 targets behind 256 inputs then costs as many
positions as a forward or two, where asking anew for every target costs thirty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pgolf.evaluate.neural import Neural
from pgolf.evaluate.predictor import Ask, Extent, Scored
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.model.adapter import Adapters
from pgolf.model.cache import Cache
from pgolf.model.gpt import Gpt

Row = tuple[int, int]  # a row's slot (-1 in a stream) and where its window begins


@dataclass
class _Kept:
    rows: list[Row]
    cache: Cache


class Growing(Neural):
    def __init__(self, network: Gpt) -> None:
        super().__init__(network)
        self.kept: list[_Kept] = []

    def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
        self._forget()

    def open(self, documents: Sequence[int]) -> None:
        self._forget()

    def observe(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        self._forget()

    def learn(self, scored: Scored) -> None:
        self._forget()

    def hidden(self, ask: Ask, adapters: Sequence[Adapters] = ()) -> Float[Tensor, "targets d"]:
        if not ask.growing:
            return super().hidden(ask, adapters)
        assert not adapters, "who adapts to documents keeps their past itself (pgolf.evaluate.past)"
        device, lengths = self.network.device, ask.lengths
        found: dict[int, Tensor] = {}
        used = []
        for length in sorted(set(lengths)):
            rows = [row for row, n in enumerate(lengths) if n == length]
            part = ask if len(rows) == len(lengths) else ask.rows(rows)
            kept = self._kept([self._row(ask, row) for row in rows], length)
            states = self.network.hidden(part.tokens.to(device), part.starts.to(device), cache=kept.cache)
            found |= {row: state[-ask.wanted[row] :] for row, state in zip(rows, states, strict=True)}
            used.append(kept)
        self.kept = used
        self.latest = torch.cat([found[row] for row in range(len(lengths))])
        return self.latest

    def _forget(self) -> None:
        self.kept = []

    def _row(self, ask: Ask, row: int) -> Row:
        return ask.slots[row] if ask.slots else -1, int(ask.windows[row, 0])

    def _kept(self, rows: list[Row], length: int) -> _Kept:
        """A cache of these rows' beginning, empty if there is none."""
        for kept in self.kept:
            if kept.cache.known < length and set(rows) <= set(kept.rows):
                if rows != kept.rows:
                    kept.cache.select(torch.tensor([kept.rows.index(row) for row in rows]))
                    kept.rows = rows
                return kept
        return _Kept(rows, Cache())
