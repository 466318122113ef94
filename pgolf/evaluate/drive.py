"""One pass over a stream: what is asked when, what is told when, and the ledger of both.

The scorer and the arithmetic coder drive a predictor through here and differ in one thing alone: how the targets of
a step come to be known (`visit`). The scorer looks them up; the coder writes or reads them one at a time. Whatever
a predictor is told, its score was written before.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Ask, Extent, Predictor, Scored
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.evaluate.schedule import Batch, Round, shares
from pgolf.formats.ledger import Ledger
from pgolf.formats.shards import BOS
from pgolf.runtime import Clock

Visit = Callable[[Ask], Ask]  # asks the predictor for a block; its targets are in the stream afterwards
Progress = Callable[[int, int], None]  # targets scored on this rank, of how many


@dataclass
class Pass:
    """A predictor's way over a stream, once."""

    predictor: Predictor
    extent: Extent
    rounds: list[Round]
    ranks: Ranks = ALONE
    progress: Progress | None = None
    ledger: Ledger = field(init=False)
    scoring: Clock = field(default_factory=Clock)  # asking and adding up
    adapting: Clock = field(default_factory=Clock)  # what predictors do with what they are told
    _done: int = 0  # targets scored by this rank
    _total: int = 0
    _states: dict[int, int] = field(default_factory=dict)  # of slots, where something is carried

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.ranks.rank)
        self._began = time.perf_counter()

    def run(self, stream: Int[Tensor, " tokens"], visit: Visit) -> None:
        """Drive the predictor over the stream.

        Args:
            visit: is given a block's windows with what is known of their inputs, and answers with the block as it
                asked for it, whole.
        """
        with self.adapting:
            self.predictor.begin(self.extent, self.ranks)
        parts = [
            shares([batch.cost for batch in batches], self.ranks.size)[self.ranks.rank]
            for batches in self.rounds
        ]
        self._total = sum(_targets(self.rounds[n][i]) for n, own in enumerate(parts) for i in own)
        for number, (batches, own) in enumerate(zip(self.rounds, parts, strict=True)):
            for index in own:
                self._batch(batches[index], stream, visit)
            if number + 1 < len(self.rounds):
                self._learn(number, batches, stream)

    def _batch(self, batch: Batch, stream: Int[Tensor, " tokens"], visit: Visit) -> None:
        predictor, ledger = self.predictor, self.ledger
        with self.adapting:
            predictor.open(batch.documents)
        states = self._opened(batch.documents)
        for step in batch.steps:
            with self.scoring:
                ask = visit(Ask.of(stream, step.windows, step.slots, step.ends))
            for row, (context, begin, end) in enumerate(step.windows.tolist()):
                slot = step.slots[row] if step.slots else None
                document = -1 if slot is None else batch.documents[slot]
                state = ledger.shared if slot is None or states is None else states[slot]
                ledger.scored(document, context, begin, end, state, self._now())
            if states is not None:  # it is told all blocks of documents
                with self.adapting:
                    predictor.observe(ask, targets_of(stream, ask))
                for row, (_, begin, end) in enumerate(step.windows.tolist()):
                    slot = step.slots[row]
                    span = (batch.documents[slot], begin, end)
                    states[slot] = ledger.updated([span], states[slot], self._now())
            self._done += ask.targets
            if self.progress is not None:
                self.progress(self._done, self._total)
        if states is not None:
            self._states |= states

    def observes(self, ask: Ask) -> bool:
        """Whether the predictor will be told this block: of documents all of them, the last ones too, so that
        what it knows does not depend on which documents shared a batch."""
        return bool(ask.slots) and self.predictor.adapts

    def asks_whole(self, ask: Ask) -> bool:
        """Whether a block that was asked for a position at a time has to be asked for as a whole besides: it will be
        observed, or what is noted of a block is learned from when the round is over."""
        return self.observes(ask) or self.predictor.learns

    def _opened(self, documents: Sequence[int]) -> dict[int, int] | None:
        """States of the slots, if documents have any."""
        if not documents or not self.predictor.adapts:
            return None
        carried = self._states if self.predictor.carry == "slot" else {}
        return {slot: self.ledger.begun(d, carried.get(slot)) for slot, d in enumerate(documents)}

    def _learn(self, number: int, batches: Round, stream: Int[Tensor, " tokens"]) -> None:
        """All ranks have written this round's scores; then all are told the whole round."""
        if self.predictor.learns:
            spans = _merged(batches)
            self.ranks.gather(None)
            with self.adapting:
                self.predictor.open(())
                self.predictor.learn(Scored(number, spans, [stream[a - 1 : b] for a, b in spans]))
            self.ledger.learned(spans, self._now())
            self._states = {}
        self.ledger.next_round()

    def _now(self) -> int:
        return int((time.perf_counter() - self._began) * 1e6)


def extent_of(
    starts: NDArray[np.int64], tokens: int, predictor: Predictor, mode: Mode, ranks: int
) -> tuple[Extent, list[Round]]:
    """What is known of a stream beforehand, and the rounds it is scored in."""
    bare = Extent(tokens, starts)
    bare = replace(bare, order=mode.order_of(bare))
    rounds = mode.rounds(bare, predictor.boundaries(bare), ranks)
    ends = np.cumsum([sum(map(_targets, batches)) for batches in rounds])
    return replace(bare, rounds=tuple(ends.tolist())), rounds


def starts_of(tokens: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where documents begin; the first token begins one, whatever it is."""
    found: NDArray[np.int64] = np.flatnonzero(tokens == BOS).astype(np.int64)
    return found if len(found) and found[0] == 0 else np.insert(found, 0, 0)


def one_by_one(ask: Ask, stream: Int[Tensor, " tokens"]) -> Iterator[Ask]:
    """The same block, a position at a time: rows of documents side by side, a stream's windows one after the other.

    Each ask is made when it is wanted, from what the stream holds by then.
    """
    every = range(len(ask.windows))
    for rows in [every] if ask.slots else [[row] for row in every]:
        wanted = ask.wanted
        for ahead in range(max(wanted[row] for row in rows)):
            going = [row for row in rows if ahead < wanted[row]]
            windows = ask.windows[going]
            windows[:, 1] += ahead
            windows[:, 2] = windows[:, 1] + 1
            yield Ask.of(
                stream, windows, [ask.slots[row] for row in going] if ask.slots else (), growing=True
            )


def targets_of(stream: Int[Tensor, " tokens"], ask: Ask) -> Int[Tensor, " targets"]:
    """The tokens asked for, row after row."""
    return torch.cat([stream[b:e] for _, b, e in ask.windows.tolist()])


def _targets(batch: Batch) -> int:
    return int(sum((step.windows[:, 2] - step.windows[:, 1]).sum() for step in batch.steps))


def _merged(batches: Round) -> list[tuple[int, int]]:
    """Targets of a round as ascending intervals, those that touch made one."""
    windows = np.concatenate([step.windows for batch in batches for step in batch.steps])
    spans: list[tuple[int, int]] = []
    for begin, end in sorted(windows[:, 1:].tolist()):
        if spans and spans[-1][1] == begin:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return spans
