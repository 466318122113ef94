"""The predictor's side of an evaluation: what it is asked, what it answers, and when it is told.

The evaluator owns tokens and targets. A predictor is asked for distributions over the next token (`log_probs`),
and only when their scores are in the ledger is it told what the tokens were (`observe`, of its documents;
`learn`, of all documents of a round). It changes its mind nowhere else.

A block of targets is asked for at once. Its inputs hold the block's own tokens but the last: the answer at a
position may depend on inputs up to that position alone, as a causal network's does. The same questions can be
asked one position at a time (`Ask.growing`), which is how the arithmetic coder asks, and must be answered alike.

Adaptation, memory and mixers are predictors that hold predictors (`Holding`). At the bottom is a network
(pgolf.evaluate.neural).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pgolf.data.starts import document_starts
from pgolf.evaluate.ranks import ALONE, Ranks

Windows = NDArray[np.int64]  # [rows, 3]: context, begin, end. Targets begin .. end - 1, seen from context on


@dataclass(frozen=True)
class Ask:
    """Rows of inputs; the distributions after the last `wanted` of each row's inputs are asked for.

    Rows are padded on the right with token 0, as documents of their own.
    """

    tokens: Int[Tensor, "rows time"]  # on the CPU
    starts: Bool[Tensor, "rows time"]
    windows: Windows  # [rows, 3], in the stream's positions
    slots: tuple[int, ...] = ()  # of each row the place of its document among those opened; () in a stream
    ends: tuple[bool, ...] = ()  # of each row whether its document ends here: nothing will need its state
    growing: bool = False  # more of the same block will be asked: nothing will be observed after this one

    @staticmethod
    def of(
        stream: Int[Tensor, " tokens"], windows: Windows, slots: Sequence[int] = (), ends: Sequence[bool] = (),
        growing: bool = False,
    ) -> "Ask":  # fmt: skip
        """The rows of windows over a stream; what lies at and after a window's last target is not read."""
        rows = [stream[c : e - 1] for c, _, e in windows.tolist()]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        starts = document_starts(tokens)
        for row, inputs in enumerate(rows):
            starts[row, len(inputs) :] = True
        return Ask(tokens, starts, windows, tuple(slots), tuple(ends), growing)

    @property
    def lengths(self) -> list[int]:
        """Inputs of each row."""
        return [int(n) for n in self.windows[:, 2] - 1 - self.windows[:, 0]]

    @property
    def wanted(self) -> list[int]:
        """Distributions asked for of each row: after its last inputs."""
        return [int(n) for n in self.windows[:, 2] - self.windows[:, 1]]

    @property
    def targets(self) -> int:
        return sum(self.wanted)

    @property
    def owners(self) -> NDArray[np.int64]:
        """[targets] the slot of each one's document; in a stream the first."""
        return np.repeat(np.array(self.slots or [0] * len(self.windows), dtype=np.int64), self.wanted)

    def asked(self, states: Float[Tensor, "rows time n"]) -> Float[Tensor, "targets n"]:
        """Of something per input what belongs to the distributions asked for, row after row."""
        ends = zip(self.lengths, self.wanted, strict=True)
        return torch.cat([row[end - count : end] for row, (end, count) in zip(states, ends, strict=True)])

    def rows(self, chosen: Sequence[int]) -> "Ask":
        """Some of the rows, as narrow as they can be."""
        index = list(chosen)
        lengths = self.lengths
        width = max(lengths[row] for row in index)
        slots = tuple(self.slots[row] for row in index) if self.slots else ()
        ends = tuple(self.ends[row] for row in index) if self.ends else ()
        tokens, starts = self.tokens[index, :width], self.starts[index, :width]
        return replace(
            self, tokens=tokens, starts=starts, windows=self.windows[index], slots=slots, ends=ends
        )

    def positions(self) -> NDArray[np.int64]:
        """[targets] places in the stream, row after row."""
        return np.concatenate([np.arange(b, e) for _, b, e in self.windows.tolist()])


@dataclass(frozen=True)
class Extent:
    """What is known of a stream before its first token: how long its documents are, and the rounds to come."""

    tokens: int
    starts: NDArray[np.int64]  # positions where documents begin; the first is 0
    rounds: tuple[int, ...] = ()  # targets scored when each round is over
    order: NDArray[np.int64] | None = None  # of its documents; None: as they stand in the stream

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Targets of each document: the next document's BOS is its last."""
        ends = np.append(self.starts[1:], self.tokens - 1)
        return ends - self.starts

    @property
    def documents(self) -> NDArray[np.int64]:
        """[tokens - 1] the number of the document of each target."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @property
    def scored_by(self) -> NDArray[np.int64]:
        """Targets scored when the first, second, ... document is over, in the order of scoring."""
        lengths = self.lengths
        return (lengths if self.order is None else lengths[self.order]).cumsum()

    def ending(self, wanted: Sequence[int]) -> set[int]:
        """Numbers of the rounds that end where someone wanted one to: rounds of others lie between."""
        return set(np.searchsorted(self.rounds, wanted).tolist())


@dataclass(frozen=True)
class Scored:
    """What a round scored, in the order of the stream: it may be learned from."""

    number: int  # of the round, from 0
    spans: list[tuple[int, int]]  # targets [begin, end), ascending, merged where they touch
    pieces: list[Int[Tensor, " _"]]  # of each span its tokens, the one before it included


class Predictor:
    """The protocol, and a predictor that never adapts."""

    adapts = False  # whether `observe` changes answers
    learns = False  # whether `learn` changes answers
    carry: Literal["document", "slot"] = "document"  # whether something outlives a document in its slot

    def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
        """A stream begins, from the artifact's own state."""

    def open(self, documents: Sequence[int]) -> None:
        """Documents begin together, each in a slot of its own with a state of its own; those before are over."""

    def log_probs(self, ask: Ask) -> Float[Tensor, "targets vocab"]:
        """Log-probabilities (nats, float64) of every token as the next one, row after row. They sum to one."""
        raise NotImplementedError

    def observe(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        """The tokens of the block that was asked for last, whose scores are written. Only if slots are open;
        rows of documents that end there are among them."""

    def learn(self, scored: Scored) -> None:
        """A round is over on all ranks; no document is open."""

    def boundaries(self, extent: Extent) -> list[int]:
        """Where rounds should end: targets scored by then. Documents are not cut; rounds end at the first end
        of a document from there on."""
        return []

    def states(self) -> Float[Tensor, "targets d"]:
        """The network's last states for the distributions that were asked for last."""
        raise NotImplementedError

    def clocks(self) -> dict[str, float]:
        """Clocks of its own, in seconds by name."""
        return {}

    def noted(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        """For logs alone: the targets of the block that was asked for last, after their scores were written."""

    def events(self) -> list[Any]:
        """What was logged, from the network up."""
        return []


class Holding(Predictor):
    """A predictor over another, which is asked and told the same. Override what differs."""

    def __init__(self, base: Predictor) -> None:
        self.base = base
        self.adapts, self.learns, self.carry = base.adapts, base.learns, base.carry

    def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
        self.base.begin(extent, ranks)

    def open(self, documents: Sequence[int]) -> None:
        self.base.open(documents)

    def log_probs(self, ask: Ask) -> Float[Tensor, "targets vocab"]:
        return self.base.log_probs(ask)

    def observe(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        self.base.observe(ask, targets)

    def learn(self, scored: Scored) -> None:
        self.base.learn(scored)

    def boundaries(self, extent: Extent) -> list[int]:
        return self.base.boundaries(extent)

    def states(self) -> Float[Tensor, "targets d"]:
        return self.base.states()

    def clocks(self) -> dict[str, float]:
        return self.base.clocks()

    def noted(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        self.base.noted(ask, targets)

    def events(self) -> list[Any]:
        return self.base.events()
