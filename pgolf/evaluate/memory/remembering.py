"""What the memories have in common: what they are told, when they forget, and what they log.

A memory remembers its own document (`document`: told chunk by chunk once a chunk is scored, forgotten when the
document's slot is opened for another), or the documents of earlier rounds (`share_documents`: told at a round's end),
or both. Only what is shared makes documents depend on one another. Between two tellings it is a function from what it
was told and a block's own inputs to normalized distributions.

A memory stands over what is below it (`base`, or the network), whose distributions it is given and changes.

Its log is for reports alone: it is written after the scores, and nothing reads it before the evaluation is over.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.evaluate.memory.grams import Array, Followers, Grams, Text, told
from pgolf.evaluate.predictor import Ask, Extent, Holding, Predictor, Scored
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.runtime import Clock
from pgolf.section import RuleBroken, Section

if TYPE_CHECKING:
    from pgolf.evaluate.memories import Memory

SAMPLE = 16  # of the proposals that changed little every 16th place of the stream is logged
CHANGED = 0.25  # change of the hint's log-odds from which on a mixture's proposal counts as gated
EVENT_COLUMNS: dict[str, str] = {
    "memory": "i1", "pos": "i8", "doc": "i4", "h": "i4", "conf": "f4", "match_len": "i2", "count": "i4", "q": "f4",
    "H": "f4", "beta": "f4", "gated": "?", "hit": "?", "nll_base": "f4", "nll_mixed": "f4", "dloss": "f4",
    "in_window": "?", "dist": "i8", "w": "f4",
}  # fmt: skip

TOTALS = ("targets", "nll_base", "dloss", "dloss_believed")  # of all targets, exactly


class MemorySection(Section):
    """What a memory is told. A subclass says what it makes of it."""

    OUTSIDE_RULES: ClassVar[str | None] = None  # the rule that it breaks: then nothing ranks it

    base: "Memory | None" = None  # what it stands over, if not the network itself
    document: bool = True  # remembers the document that is being scored
    share_documents: bool = False  # remembers the documents of earlier rounds
    round_tokens: int = Field(65_536, ge=1)  # targets after which a round ends

    @model_validator(mode="after")
    def _remembers(self) -> "MemorySection":
        if not (self.document or self.share_documents):
            raise RuleBroken(
                "a memory remembers the document, shared documents, or both",
                "document=false, share_documents=false",
                "share_documents=true, or leave the memory out",
            )
        return self

    def of_documents_alone(self, what: str) -> None:
        """For a validator: refuse what would be ignored. Raises RuleBroken."""
        if self.share_documents or not self.document:
            raise RuleBroken(
                f"{self.plain()['kind']} remembers {what}, and a document's alone",
                f"share_documents={str(self.share_documents).lower()}, document={str(self.document).lower()}",
                "share_documents=false, document=true",
            )

    @property
    def needs_documents(self) -> bool:
        """Whether it remembers nothing where documents are not opened one after the other."""
        return not self.share_documents

    @property
    def chain(self) -> "list[MemorySection]":
        """This memory and those it stands over, the one next to the network last."""
        return [self, *(self.base.chain if self.base is not None else ())]

    def build(self, base: Predictor) -> "Remembering":
        return self.over(base if self.base is None else self.base.build(base))

    def over(self, base: Predictor) -> "Remembering":
        raise NotImplementedError


@dataclass(frozen=True)
class Hints:
    """Proposed next tokens, in the order of the targets they are proposed for."""

    rows: Array  # which of the targets asked for
    tokens: Array
    conf: NDArray[np.float64]  # how sure the memory is
    length: Array  # of the context that was found again
    counts: Array  # how often the token followed it
    totals: Array  # how often anything did
    last: Array  # place in the stream where it did so last

    @staticmethod
    def none() -> "Hints":
        empty = np.zeros(0, dtype=np.int64)
        return Hints(empty, empty, empty.astype(np.float64), empty, empty, empty, empty)

    @staticmethod
    def of(found: Followers, length: int, most: int = 1) -> "Hints":
        """The most frequent followers of every row, of equally frequent ones the latest."""
        order = np.lexsort((-found.last, -found.counts, found.rows))
        rows = found.rows[order]
        first = np.searchsorted(rows, rows)
        kept = order[np.arange(len(rows)) - first < most]
        totals = found.totals(int(rows.max(initial=-1)) + 1)
        rows, counts = found.rows[kept], found.counts[kept]
        return Hints(rows, found.tokens[kept], counts / totals[rows], np.full(len(rows), length), counts,
                     totals[rows], found.last[kept])  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    def but(self, conf: NDArray[np.float64]) -> "Hints":
        return Hints(self.rows, self.tokens, conf, self.length, self.counts, self.totals, self.last)

    def of_rows(self, kept: NDArray[np.bool_] | Array) -> "Hints":
        return Hints(self.rows[kept], self.tokens[kept], self.conf[kept], self.length[kept], self.counts[kept],
                     self.totals[kept], self.last[kept])  # fmt: skip

    @staticmethod
    def joined(parts: "Sequence[Hints]") -> "Hints":
        """Sorted by row."""
        if not parts:
            return Hints.none()
        names = ("rows", "tokens", "conf", "length", "counts", "totals", "last")
        whole = Hints(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))
        return whole.of_rows(np.argsort(whole.rows, kind="stable"))


class Remembering(Holding):
    """A memory at work. Subclasses fill in `mix`, and what follows it as far as they need it."""

    GATES = False  # whether each hint is let through or not, and believed in for itself

    def __init__(self, section: MemorySection, base: Predictor) -> None:
        super().__init__(base)
        self.document, self.share = section.document, section.share_documents
        self.adapts, self.learns = base.adapts or self.document, base.learns or self.share
        self.round_tokens, self.clock = section.round_tokens, Clock()
        self.documents: tuple[int, ...] = ()
        self.slots = 0  # documents that are open
        self.answered: tuple[Tensor, Tensor] | None = None  # the block's distributions before and after

    # ---------------------------------------------------------------------------- of a subclass

    def mix(self, ask: Ask, below: Float[Tensor, "targets vocab"]) -> Float[Tensor, "targets vocab"]:
        """The distributions that are below, changed."""
        raise NotImplementedError

    def forget(self) -> None:
        """A stream begins."""

    def opened(self) -> None:
        """Documents begin in `slots` slots."""

    def tell(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        """What `observe` says, of the block that was mixed last."""

    def share_out(self, scored: Scored) -> None:
        """What `learn` says, on all ranks."""

    def shown(self) -> Hints:
        """For the log: what the memory proposed for the block that was mixed last, one hint a target at most."""
        raise NotImplementedError

    def weighed(self) -> tuple[Float[Tensor, "targets vocab"], NDArray[np.float64]]:
        """For the log: what the memory itself made of the block, and how far it was believed, [targets]."""
        assert self.answered is not None
        return self.answered[1], np.ones(len(self.answered[1]))

    # ----------------------------------------------------------------------------- the protocol

    def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
        super().begin(extent, ranks)
        self.extent, self.ranks, self.slots = extent, ranks, 0
        self.clock = Clock()
        with self.clock:
            self.log = Log()
            self.forget()

    def open(self, documents: Sequence[int]) -> None:
        super().open(documents)
        self.slots, self.documents = len(documents), tuple(documents)
        with self.clock:
            self.opened()

    def log_probs(self, ask: Ask) -> Float[Tensor, "targets vocab"]:
        below = self.base.log_probs(ask)
        with self.clock, torch.inference_mode():
            made = self.mix(ask, below)
        self.answered = (below, made)
        return made

    def observe(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        super().observe(ask, targets)
        if self.document:
            with self.clock, torch.inference_mode():
                self.tell(ask, targets)

    def learn(self, scored: Scored) -> None:
        super().learn(scored)
        if self.share:
            with self.clock, torch.inference_mode():
                self.share_out(scored)

    def boundaries(self, extent: Extent) -> list[int]:
        own = range(self.round_tokens, extent.tokens - 1, self.round_tokens) if self.share else ()
        return sorted({*super().boundaries(extent), *own})

    def clocks(self) -> dict[str, float]:
        """Seconds in the code of memories, those below included; in the chain's networks none of them."""
        below = super().clocks()
        return {**below, "memory_seconds": below.get("memory_seconds", 0.0) + self.clock.seconds}

    # ---------------------------------------------------------------------------------- the log

    def noted(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        super().noted(ask, targets)
        if self.answered is not None:
            with self.clock, torch.inference_mode():
                self.log.enter(
                    ask,
                    targets.cpu().numpy(),
                    *self.answered,
                    *self.weighed(),
                    self.shown(),
                    self.extent.starts,
                    self.GATES,
                )
        self.answered = None

    def events(self) -> "list[Log]":
        return [*super().events(), self.log]


class Recall:
    """The counts of a memory: of its open documents, of earlier rounds, or of both added up."""

    def __init__(self, orders: Sequence[int], document: bool, share: bool) -> None:
        self.orders, self.document, self.share = tuple(sorted(orders)), document, share
        self.local, self.shared = Grams(self.orders), Grams(self.orders)

    def open(self) -> None:
        self.local = Grams(self.orders)

    def of(self, ask: Ask) -> Iterator[tuple[int, Followers]]:
        """What followed the contexts of the targets asked for, the longest contexts first."""
        kinds = [(self.local, True)] * (self.document and bool(ask.slots)) + [
            (self.shared, False)
        ] * self.share
        names = [(g, g.contexts(Text.of(ask, self.orders[-1], owners))) for g, owners in kinds]
        for order in reversed(self.orders):
            if names:
                yield order, Followers.joined([g.followers(order, found[order]) for g, found in names])

    def observe(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        self.local.add(Text.of(ask, self.orders[-1], True), *told(ask, targets))

    def learn(self, scored: Scored) -> None:
        for (begin, end), piece in zip(scored.spans, scored.pieces, strict=True):
            self.shared.add(Text.of_piece(piece), piece[1:].numpy(), np.arange(begin, end))


class Log:
    """What a memory proposed, what came, and what that was worth."""

    def __init__(self) -> None:
        self.targets, self.nll_base, self.dloss = 0, 0.0, 0.0  # of all targets, exactly
        self.dloss_believed = 0.0  # what dloss would be, were the memory always believed
        self.rows: list[dict[str, NDArray]] = []

    def enter(
        self, ask: Ask, targets: Array, below: Tensor, made: Tensor, own: Tensor, w: NDArray[np.float64],
        hints: Hints, starts: Array, gates: bool,
    ) -> None:  # fmt: skip
        """What a mixture believes of a hint is the probability that it comes to give it."""
        here = torch.from_numpy(targets).to(made.device).unsqueeze(1)
        base, mixed, believed = (
            -x.gather(1, here).squeeze(1).double().cpu().numpy() for x in (below, made, own)
        )
        self.targets += len(targets)
        self.nll_base += float(base.sum())
        self.dloss += float((mixed - base).sum())
        self.dloss_believed += float((believed - base).sum())
        if not len(hints):
            return
        places = ask.positions()[hints.rows]
        window = np.repeat(ask.windows[:, 0], ask.wanted)[hints.rows]
        document = np.searchsorted(starts, places - 1, side="right") - 1
        at, h = (torch.from_numpy(x).to(made.device) for x in (hints.rows, hints.tokens))
        p = below[at]
        q, after = below[at, h].cpu().numpy(), made[at, h].cpu().numpy()
        beta = log_odds(after) - log_odds(q)
        gated = np.abs(beta) > (1e-9 if gates else CHANGED)
        kept = gated | (places % SAMPLE == 0)
        columns = {
            "pos": places, "doc": document, "h": hints.tokens,
            "conf": hints.conf if gates else np.exp(after), "match_len": hints.length,
            "count": hints.totals, "q": np.exp(q), "H": torch.special.entr(p.exp()).sum(1).cpu().numpy(),
            "beta": beta, "gated": gated, "hit": targets[hints.rows] == hints.tokens, "nll_base": base[hints.rows],
            "nll_mixed": mixed[hints.rows], "dloss": (mixed - base)[hints.rows],
            "in_window": hints.last >= np.maximum(window, starts[document]), "dist": places - hints.last,
            "w": w[hints.rows],
        }  # fmt: skip
        self.rows.append({name: c[kept].astype(EVENT_COLUMNS[name]) for name, c in columns.items()})


def arrays_of(chains: Sequence[Sequence[Log]]) -> Mapping[str, NDArray]:
    """The logs of all ranks, each a chain from the network up, as arrays: events in the stream's order, and totals."""
    out: dict[str, NDArray] = {}
    numbered = [(n, rows) for logs in chains for n, log in enumerate(logs) for rows in log.rows]
    for name, kind in EVENT_COLUMNS.items():
        parts = [np.full(len(r["pos"]), n) if name == "memory" else r[name] for n, r in numbered]
        out[name] = np.concatenate([np.zeros(0), *parts]).astype(kind)
    order = np.lexsort((out["h"], out["pos"], out["memory"]))
    out = {name: column[order] for name, column in out.items()}
    for name in TOTALS:
        out[f"total_{name}"] = np.array(
            [sum(getattr(log, name) for log in of) for of in zip(*chains, strict=True)]
        )
    return out


MOST_LOG_ODDS = 30.0


def log_odds(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of log-probabilities, cut off at 30 on both sides."""
    log_p = np.clip(log_p, -MOST_LOG_ODDS, -1e-16)
    return np.minimum(log_p - np.log(-np.expm1(log_p)), MOST_LOG_ODDS)
