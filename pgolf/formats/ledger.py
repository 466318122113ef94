"""The interval ledger: what was scored from which state, and what each state had been told.

One row an event, of columns COLUMNS; intervals are half open, in positions of the stream. Target t is predicted
from positions context .. t - 1 and from the state `before`:

    SCORE    targets [begin, end) were scored, seen from `context`, by state `before`
    UPDATE   state `before` was told the tokens of [begin, end) and became `after`
    RESET    a document's state `after` begins as a copy of state `before`
    LEARN    at a round's end everybody's state `before` was told [begin, end) and became `after`

Clocks are logical. On one rank events follow one another; ranks meet where a round ends, and what a round learns
comes after everything in it. An update of several intervals is several rows with the same states.

The checker trusts none of this: it recomputes what every state has been told, from its ancestors, and answers with
the first thing that breaks the rules (conditions C1, C3 and C4 of issue 1017 of the challenge).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pgolf.formats.arrays import read_arrays, write_arrays

LEDGER = "ledger.npz"
COLUMNS = (
    "round",
    "rank",
    "event",
    "kind",
    "document",
    "context",
    "begin",
    "end",
    "before",
    "after",
    "microseconds",
)
ARTIFACT_STATE = 0
FIRST_OWN = 1 << 40  # states below are everybody's, one a round; above, a rank's own

Order = Literal["document_independent", "stream", "reordered_carry"]
Events = NDArray[np.int64]  # [events, len(COLUMNS)]


class Kind(IntEnum):
    SCORE, UPDATE, RESET, LEARN = range(4)


@dataclass
class Ledger:
    """One rank's events, in the order in which they happen."""

    rank: int = 0
    rows: list[tuple[int, ...]] = field(default_factory=list)
    round: int = 0
    shared: int = ARTIFACT_STATE  # everybody's state in this round
    _states: int = 0

    def scored(
        self, document: int, context: int, begin: int, end: int, state: int, microseconds: int = 0
    ) -> None:
        self._add(Kind.SCORE, document, context, begin, end, state, state, microseconds)

    def updated(self, spans: Iterable[tuple[int, int, int]], before: int, microseconds: int = 0) -> int:
        """A state that was told spans (document, begin, end); its new name."""
        after = self._new()
        for document, begin, end in spans:
            self._add(Kind.UPDATE, document, begin, begin, end, before, after, microseconds)
        return after

    def begun(self, document: int, before: int | None = None) -> int:
        """A document begins; its state's name. `before`: what it takes over, if not everybody's state."""
        after = self._new()
        self._add(Kind.RESET, document, 0, 0, 0, self.shared if before is None else before, after, 0)
        return after

    def learned(self, spans: Iterable[tuple[int, int]], microseconds: int = 0) -> None:
        """Everybody was told spans (begin, end), after the round's last event. The first rank writes it down."""
        after = self.round + 1
        for begin, end in spans if self.rank == 0 else ():
            self._add(Kind.LEARN, -1, begin, begin, end, self.shared, after, microseconds)
        self.shared = after

    def next_round(self) -> None:
        self.round += 1

    def events(self) -> Events:
        return np.array(self.rows, dtype=np.int64).reshape(-1, len(COLUMNS))

    def _new(self) -> int:
        self._states += 1
        return (self.rank + 1) * FIRST_OWN + self._states

    def _add(
        self, kind: Kind, document: int, context: int, begin: int, end: int, before: int, after: int, microseconds: int
    ) -> None:  # fmt: skip
        row = (
            self.round,
            self.rank,
            len(self.rows),
            kind,
            document,
            context,
            begin,
            end,
            before,
            after,
            microseconds,
        )
        self.rows.append(row)


@dataclass(frozen=True)
class Audit:
    """What a ledger shows. `broken` is the first broken rule, None where all hold."""

    broken: str | None
    rule: str | None  # of section 9.3: L5 or L6
    order: Order
    scores: int = 0  # events
    updates: int = 0  # events that told a state something, learning included
    update_tokens: int = 0  # told, counted as often as they were told
    update_lead: int | None = (
        None  # most that a state knew beyond a target it scored; below 0 in stream order
    )
    rounds: int = 1

    @property
    def holds(self) -> bool:
        return self.broken is None


def write_ledger(directory: Path, events: Events, nll: NDArray[np.float64]) -> None:
    """`nll` [tokens] in nats by target, entry 0 (the first token) unscored and zero."""
    write_arrays(directory / LEDGER, {"events": events, "nll": nll})


def read_ledger(directory: Path) -> tuple[Events, NDArray[np.float64]]:
    """Raises StoreError if the file is missing or damaged."""
    arrays = read_arrays(directory / LEDGER)
    return arrays["events"], arrays["nll"]


def column(events: Events, name: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = events[:, COLUMNS.index(name)]
    return found


def of_kind(events: Events, *kinds: Kind) -> Events:
    return events[np.isin(column(events, "kind"), kinds)]


def in_causal_order(events: Events) -> Events:
    """Round by round, rank after rank, and what a round learned after all of it."""
    late = column(events, "kind") == Kind.LEARN
    clocks = (column(events, "event"), column(events, "rank"), late, column(events, "round"))
    return events[np.lexsort(clocks)]


def windows_of(events: Events) -> NDArray[np.int64]:
    """[scores, 3] rows (context, begin, end) in the order of scoring."""
    chosen = of_kind(events, Kind.SCORE)
    return np.stack([column(chosen, name) for name in ("context", "begin", "end")], axis=1)


def gone_by(events: Events, many: int) -> list[tuple[int, tuple[tuple[int, int], ...]] | None]:
    """Of the first targets what their scores could go by: where the window begins, and all that the state was told.

    Read from the states' ancestry alone, so that a ledger of any length costs what its beginning does. None: not
    scored, or by a state that was told more than these targets, or that no event made.
    """
    kinds, names = column(events, "kind"), column(events, "after")
    makers = np.flatnonzero(kinds != Kind.SCORE)
    makers = makers[np.argsort(names[makers], kind="stable")]
    sorted_names = names[makers]
    before = COLUMNS.index("before")
    known: dict[int, tuple[tuple[int, int], ...] | None] = {ARTIFACT_STATE: ()}

    def told(state: int) -> tuple[tuple[int, int], ...] | None:
        chain: list[tuple[int, Events]] = []
        while state not in known:
            first, last = (
                np.searchsorted(sorted_names, state, "left"),
                np.searchsorted(sorted_names, state, "right"),
            )
            rows = events[makers[first:last]]
            beyond = of_kind(rows, Kind.UPDATE, Kind.LEARN)
            if not len(rows) or len(chain) > len(events) or (column(beyond, "end") > many).any():
                known[state] = None
                break
            chain.append((state, beyond))
            state = int(rows[0, before])
        so_far = known[state]
        for name, rows in reversed(chain):
            spans = zip(column(rows, "begin").tolist(), column(rows, "end").tolist(), strict=True)
            so_far = known[name] = None if so_far is None else (*so_far, *spans)
        return so_far

    found: list[tuple[int, tuple[tuple[int, int], ...]] | None] = [None] * many
    scores = events[(kinds == Kind.SCORE) & (column(events, "begin") < many)]
    columns = (column(scores, name).tolist() for name in ("context", "begin", "end", "before"))
    for context, begin, end, state in zip(*columns, strict=True):
        spans = told(state)
        for target in range(begin, min(end, many)):
            found[target] = None if spans is None else (context, spans)
    return found


def check_once(events: Events, tokens: int) -> str | None:
    """What breaks score-once, or None: every target 1 .. tokens - 1 exactly once, from its past."""
    context, begin, end = windows_of(events).T
    wrong = np.flatnonzero(~((context >= 0) & (context < begin) & (begin <= end) & (end <= tokens)))
    if len(wrong):
        c, b, e = context[wrong[0]], begin[wrong[0]], end[wrong[0]]
        return f"window [{c}, {b}, {e}) of {tokens} tokens has no past or leaves the stream"
    edges = np.zeros(tokens + 1, dtype=np.int64)
    np.add.at(edges, begin, 1)
    np.add.at(edges, end, -1)
    times = edges.cumsum()[:tokens]
    if tokens and times[0]:
        return "the first token was scored; nothing precedes it"
    missed = np.flatnonzero(times[1:] != 1) + 1
    return f"target {missed[0]} was scored {times[missed[0]]} times" if len(missed) else None


def audit(events: Events, tokens: int, starts: NDArray[np.int64]) -> Audit:
    """Check a ledger against the rules.

    Args:
        tokens: of the stream; targets are 1 .. tokens - 1.
        starts: positions where documents begin.
    """
    if broken := check_once(events, tokens):
        return Audit(broken, "L6", "stream")
    scores, told = of_kind(events, Kind.SCORE), of_kind(events, Kind.UPDATE, Kind.LEARN)
    known = {
        "scores": len(scores),
        "updates": len(np.unique(column(told, "after"))),
        "update_tokens": int((column(told, "end") - column(told, "begin")).sum()),
        "rounds": int(column(events, "round").max(initial=0)) + 1,
    }
    if broken := _told_too_early(scores, told, tokens):
        return Audit(broken, "L5", "stream", **known)
    return _ancestry(events, scores, starts, known)


def _told_too_early(scores: Events, told: Events, tokens: int) -> str | None:
    """An update's tokens that had not been scored by then."""
    clock = np.full((tokens, 3), np.iinfo(np.int64).max)  # round, rank, event of each target's score
    for row in scores:
        clock[row[6] : row[7]] = row[:3]
    for round_, rank, event, kind, *_, begin, end, _before, _after, _time in told.tolist():
        if not 1 <= begin < end <= tokens:
            return f"an update was told [{begin}, {end}), which are no targets"
        part = clock[begin:end]
        same = part[:, 0] == round_
        if kind == Kind.LEARN:
            early = (part[:, 0] < round_) | same
        else:
            early = (part[:, 0] < round_) | (same & (part[:, 1] == rank) & (part[:, 2] < event))
        if not early.all():
            return f"an update was told target {begin + int(np.argmin(early))} before its score was written"
    return None


def _ancestry(events: Events, scores: Events, starts: NDArray[np.int64], known: dict[str, int]) -> Audit:
    """No state scores what it was told; and in which order what was told lies to what is scored."""
    told: dict[int, list[tuple[int, int]]] = {}  # state -> the intervals of its own last update
    parent: dict[int, int] = {}
    least: dict[int, int] = {ARTIFACT_STATE: np.iinfo(np.int64).max}
    most: dict[int, int] = {ARTIFACT_STATE: -1}
    lead, apart, broken = None, True, None
    for _r, _k, _e, kind, _d, _c, begin, end, before, after, _t in in_causal_order(events).tolist():
        if before not in most:
            return Audit(f"state {before} was never made", "L5", "stream", **known)
        if kind == Kind.SCORE:
            if most[before] >= 0:
                lead = max(most[before] - begin, -(1 << 62) if lead is None else lead)
                own = max(int(np.searchsorted(starts, begin - 1, side="right")) - 1, 0)
                last = int(starts[own + 1]) if own + 1 < len(starts) else np.iinfo(np.int64).max
                apart = apart and least[before] > starts[own] and most[before] <= last
                if most[before] >= begin and (overlap := _overlap(before, begin, end, told, parent)):
                    broken = f"target {overlap} was scored by a state that had been told it"
                    break
            continue
        if kind == Kind.RESET:
            if after in most:
                return Audit(f"state {after} was made twice", "L5", "stream", **known)
            parent[after], least[after], most[after] = before, least[before], most[before]
            continue
        if after not in most:
            parent[after], least[after], most[after] = before, least[before], most[before]
        elif parent.get(after) != before:
            return Audit(f"state {after} was made twice", "L5", "stream", **known)
        told.setdefault(after, []).append((begin, end))
        least[after], most[after] = min(least[after], begin), max(most[after], end - 1)
    kind_of_order: Order = "reordered_carry"
    if apart:
        kind_of_order = "document_independent"
    elif lead is not None and lead < 0:
        kind_of_order = "stream"
    return Audit(broken, "L5" if broken else None, kind_of_order, update_lead=lead, **known)


def _overlap(
    state: int, begin: int, end: int, told: dict[int, list[tuple[int, int]]], parent: dict[int, int]
) -> int | None:
    """A target of [begin, end) that this state or an ancestor was told."""
    while state != ARTIFACT_STATE:
        for a, b in told.get(state, ()):
            if a < end and begin < b:
                return max(a, begin)
        state = parent[state]
    return None
