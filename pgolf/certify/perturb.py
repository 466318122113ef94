"""Perturbation: change one token of a short stream, evaluate it anew, and see which scores move.

The ledger declares all that a score may depend on: the tokens of its window before it, in its document, and what
its state had been told. So replacing x_j may move

    the score of i > j      if i's window holds j, in i's document, or i's state was told j
    the score of j itself   by the choice of the target alone: the distribution there stays

and no other score, neither one written before nor one of another document. A position whose window or told tokens
differ between the two runs (a document's end was moved) is not compared. What adapts may go by the lengths of
documents, which an evaluator knows beforehand (a rate that falls over a document); the ends themselves it may not
foretell, so where an end is moved p(BOS) is looked at. This needs no trust in the predictor and
finds what looks ahead, adapts before it scores, or remembers without saying so.

Cheats may act at rare positions only, and only where it pays. So places are chosen, besides at random, at edges of
documents and windows, where the answer differs from that of the predictor held, and where the score is lowest.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pgolf.errors import UserError
from pgolf.evaluate.drive import Pass, extent_of, one_by_one, starts_of
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Ask, Holding, Predictor
from pgolf.evaluate.scorer import score
from pgolf.formats.ledger import Events, Kind, column, in_causal_order, of_kind
from pgolf.formats.shards import BOS, Tokens
from pgolf.section import Section

TOLERANCE = 1e-5  # nats, float32 on a CPU
MOVED_TOLERANCE = 1e-4  # where documents begin elsewhere, batches are composed otherwise
FORETOLD = 0.5  # nats, median: what an end of a document costs less where it is known beforehand
GATED = 1e-9  # least difference from the predictor held
NLL = NDArray[np.float64]
Rows = NDArray[np.float64]


class Probe(Section):
    """How much of the stream is examined, and how closely."""

    tokens: int = Field(256, ge=8)  # of the stream that is perturbed
    places: int = Field(64, ge=1)  # perturbed at most; all of them where there are not more
    draws: int = Field(3, ge=1)  # replacements tried where a cheat is likely
    sums: int = Field(1100, ge=8)  # tokens whose distributions are added up
    tried: int = Field(2000, ge=1)  # runs at most that try every token in one place
    seed: int = Field(20240520, ge=0)


@dataclass(frozen=True)
class Answer:
    """What one evaluation of a stream came to."""

    nll: NLL  # [tokens], entry 0 unscored
    events: Events | None = None
    rounds: tuple[int, ...] = ()
    rows: Rows | None = None  # [tokens, vocab] log-probabilities as scored
    differs: NDArray[np.bool_] | None = None  # [tokens] from the predictor held
    widths: tuple[int, ...] = ()  # vocabulary sizes answered with
    adapts: bool = False  # within documents, or at the ends of rounds


Evaluate = Callable[[Tokens, Tokens], Answer]


class Recorder(Holding):
    """Keeps every distribution. One of a wrong width is cut or filled with zeros, and its width noted."""

    def __init__(self, base: Predictor, vocab_size: int, tokens: int) -> None:
        super().__init__(base)
        self.rows = np.full((tokens, vocab_size), np.nan)
        self.held: Rows | None = None
        self.widths: set[int] = set()
        if isinstance(base, Holding):
            self._overhear(base.base)

    def _overhear(self, inner: Predictor) -> None:
        """Note what the predictor held answers, if it is asked at all."""
        answer_, held = inner.log_probs, np.full_like(self.rows, np.nan)
        self.held = held

        def log_probs(ask: Ask) -> Tensor:
            found = answer_(ask)
            held[ask.positions()] = self._fitted(found, ask)
            return found

        inner.log_probs = log_probs  # type: ignore[method-assign]

    def log_probs(self, ask: Ask) -> Float[Tensor, "targets vocab"]:
        fitted = self._fitted(self.base.log_probs(ask), ask)
        if not ask.growing:
            self.rows[ask.positions()] = fitted
        return torch.from_numpy(fitted)

    def _fitted(self, answer: Tensor, ask: Ask) -> Rows:
        if answer.ndim != 2 or len(answer) != ask.targets:
            raise UserError(
                "a predictor answers with one row for every target asked for",
                f"shape {list(answer.shape)} for {ask.targets} targets",
                "return ask.asked(...) of something per input",
            )
        self.widths.add(answer.shape[1])
        out = np.full((len(answer), self.rows.shape[1]), -np.inf)
        width = min(answer.shape[1], out.shape[1])
        out[:, :width] = answer.detach().double().cpu().numpy()[:, :width]
        return out


def evaluation_of(factory: Callable[[], Predictor], mode: Mode, vocab_size: int) -> Evaluate:
    """A predictor under the one scorer, fresh every time."""

    def evaluate(tokens: Tokens, counts: Tokens) -> Answer:
        recorder = Recorder(factory(), vocab_size, len(tokens))
        scores = score(recorder, tokens, np.ones_like(tokens), mode, noted=recorder.noted)
        differs: NDArray[np.bool_] | None = None
        if recorder.held is not None:
            changed = (apart(recorder.rows, recorder.held) > GATED).any(1)
            differs = np.logical_and(changed, ~np.isnan(recorder.held).all(1))
        return Answer(
            scores.nll, scores.events, scores.extent.rounds, recorder.rows, differs, tuple(sorted(recorder.widths)),
            recorder.adapts or recorder.learns,
        )  # fmt: skip

    return evaluate


def prefix_rows(factory: Callable[[], Predictor], mode: Mode, vocab_size: int, tokens: Tokens) -> Rows:
    """The same distributions, each asked for with nothing of the stream but what comes before it."""
    predictor = factory()
    recorder = Recorder(predictor, vocab_size, len(tokens))
    extent, rounds = extent_of(starts_of(tokens), len(tokens), predictor, mode, 1)
    stream = torch.from_numpy(tokens.astype(np.int64))
    rows = np.full((len(tokens), vocab_size), np.nan)

    def visit(ask: Ask) -> Ask:
        for part in one_by_one(ask, stream):
            rows[part.positions()] = recorder.log_probs(part).numpy()
        recorder.log_probs(ask)
        return ask

    Pass(recorder, extent, rounds).run(stream, visit)
    return rows


# ---------------------------------------------------------------------------------- what is declared


@dataclass(frozen=True)
class Declared:
    """Of every target what its score may depend on, as the ledger has it."""

    context: NDArray[np.int64]  # [tokens] where its window begins; -1 if it was not scored
    step: NDArray[np.int64]  # [tokens] the number of its score event
    told: NDArray[np.bool_]  # [tokens, tokens] what its state had been told


def declared(events: Events, tokens: int) -> Declared:
    context, step = np.full(tokens, -1), np.full(tokens, -1)
    told = np.zeros((tokens, tokens), dtype=bool)
    nothing = np.zeros(tokens, dtype=bool)
    knows: dict[int, NDArray[np.bool_]] = {}
    for number, row in enumerate(in_causal_order(events).tolist()):
        _r, _k, _e, kind, _d, seen, begin, end, before, after, _t = row
        if kind == Kind.SCORE:
            context[begin:end], step[begin:end] = seen, number
            told[begin:end] = knows.get(before, nothing)
            continue
        if after not in knows:
            knows[after] = knows.get(before, nothing).copy()
        if kind != Kind.RESET:
            knows[after][begin:end] = True
    return Declared(context, step, told)


# -------------------------------------------------------------------------------------- what moves


@dataclass
class Footprint:
    """Scores that may not move, and how far they did."""

    pairs: int = 0
    worst: float = 0.0
    broken: int = 0  # of the pairs
    first: tuple[int, int] | None = None  # (score, token replaced) of the worst

    def add(self, moves: NDArray[np.float64], at: NDArray[np.int64], j: int, tolerance: float) -> None:
        if not len(at):
            return
        self.pairs += len(at)
        self.broken += int((moves > tolerance).sum())
        top = int(moves.argmax())
        if moves[top] > self.worst:
            self.worst, self.first = float(moves[top]), (int(at[top]), j)


@dataclass
class Moved:
    """What replacing tokens moved that may not move."""

    places: int = 0
    runs: int = 0
    noise: float = 0.0  # between two runs of the same stream
    # the distribution there, what precedes it, other documents in its window
    sight: Footprint = field(default_factory=Footprint)
    # its own chunk, and what no state can have been told
    state: Footprint = field(default_factory=Footprint)
    planned_by_text: int = 0  # a token whose replacement changed windows, rounds, or what states are told
    silent: bool = True  # it adapts, and on these streams was told nothing
    foretold: list[float] = field(default_factory=list)  # nats that documents' ends cost less where they are

    @property
    def foretells_ends(self) -> bool:
        return len(self.foretold) > 1 and float(np.median(self.foretold)) > FORETOLD


Why = Literal["edge", "gated", "sure", "anywhere"]


def places(answer: Answer, tokens: Tokens, probe: Probe) -> list[tuple[int, Why]]:
    """Where to perturb, the likeliest places of a cheat among them; position 0 is no target."""
    rng = np.random.default_rng(probe.seed)
    edges = set(np.flatnonzero(tokens == BOS).tolist()) | {
        p + 1 for p in np.flatnonzero(tokens == BOS).tolist()
    }
    if answer.events is not None:
        scores = answer.events[column(answer.events, "kind") == Kind.SCORE]
        edges |= {
            p + d for n in ("context", "begin", "end") for p in column(scores, n).tolist() for d in (-1, 0)
        }
    gated = np.flatnonzero(answer.differs).tolist() if answer.differs is not None else []
    if 2 * len(gated) > len(tokens):
        gated = []  # everywhere is nowhere in particular
    sure = (np.argsort(answer.nll[1:], kind="stable") + 1).tolist()
    quota = max(probe.places // 4, 1)
    found: dict[int, Why] = {}
    groups: list[tuple[Why, list[int]]] = [("gated", gated), ("sure", sure), ("edge", sorted(edges))]
    for why, group in groups:
        inside = [p for p in group if 0 < p < len(tokens) and p not in found]
        chosen = inside if why == "sure" else rng.permutation(inside).tolist()
        found |= {int(p): why for p in chosen[:quota]}
    rest = [p for p in rng.permutation(len(tokens)).tolist() if p and p not in found]
    found |= dict.fromkeys(rest[: max(probe.places - len(found), 0)], "anywhere")
    return sorted(found.items())


def perturb(
    moved: Moved,
    evaluate: Evaluate,
    answers: tuple[Answer, Answer],
    tokens: Tokens,
    counts: Tokens,
    vocab_size: int,
    probe: Probe,
    islands: bool,
) -> None:
    """Replace tokens one at a time and compare all scores that may not move.

    Args:
        moved: takes what is found.
        answers: two of the stream as it is.
    """
    rng = np.random.default_rng(probe.seed)
    before, noise = answers[0], float(apart(answers[0].nll, answers[1].nll).max())
    moved.noise = max(moved.noise, noise)
    if before.rounds != answers[1].rounds:
        moved.planned_by_text = 1
    usual = np.setdiff1d(np.unique(tokens), [BOS])
    if len(usual) < 3:
        usual = np.setdiff1d(np.arange(vocab_size), [BOS])
    chosen = places(before, tokens, probe)
    cut = {j for j, _ in chosen[:: max(len(chosen) // 8, 1)]}  # where a document is made to end
    moved.places += len(chosen)
    learned = before.events is not None and bool(len(of_kind(before.events, Kind.UPDATE, Kind.LEARN)))
    moved.silent &= before.adapts and not learned
    for j, why in chosen:
        others = usual[usual != tokens[j]]
        draws = 1 if why == "anywhere" else probe.draws
        replacements = rng.permutation(others)[:draws].tolist()
        if j in cut and tokens[j] != BOS:
            replacements.append(BOS)
        for token in replacements:
            changed = tokens.copy()
            changed[j] = token
            after = evaluate(changed, counts)
            moved.runs += 1
            moves_an_end = BOS in (token, int(tokens[j]))
            if moves_an_end:
                _foretold(moved, *((before, after) if tokens[j] == BOS else (after, before)), j)
            if not (moves_an_end and learned):
                tolerance = max(MOVED_TOLERANCE if moves_an_end else TOLERANCE, 4 * noise)
                _compare(moved, before, after, (tokens, changed), j, islands, tolerance, moves_an_end)


def _foretold(moved: Moved, ending: Answer, going_on: Answer, j: int) -> None:
    """How much likelier BOS is at `j` where the document does end there."""
    if ending.rows is not None and going_on.rows is not None:
        there, elsewhere = ending.rows[j, BOS], going_on.rows[j, BOS]
        moved.foretold.append(0.0 if there == elsewhere else float(np.nan_to_num(there - elsewhere)))


def _compare(
    moved: Moved,
    a: Answer,
    b: Answer,
    streams: tuple[Tokens, Tokens],
    j: int,
    islands: bool,
    tolerance: float,
    moves_an_end: bool,
) -> None:
    n = len(a.nll)
    at = np.arange(n)
    moves = apart(a.nll, b.nll)
    own = at[j : j + 1]
    if a.events is None or b.events is None:  # nothing is declared: the stream's order is all there is
        earlier = at[1:j]
        moved.sight.add(moves[earlier], earlier, j, tolerance)
        return
    x, y = declared(a.events, n), declared(b.events, n)
    if not moves_an_end and (
        a.rounds != b.rounds or (x.context != y.context).any() or (x.told != y.told).any()
    ):
        moved.planned_by_text = moved.planned_by_text or j
    if a.rounds != b.rounds:
        return
    alike = (x.context == y.context) & (x.context >= 0) & (x.told == y.told).all(1) & ~x.told[:, j]
    alike[0] = False
    starts = [_document_of(stream) for stream in streams]
    in_window = (at > j) & (x.context <= j)
    in_document = (
        np.logical_or.reduce([j >= begin for begin in starts]) if islands else np.ones(n, dtype=bool)
    )
    free = in_window & in_document  # may move
    seen = alike & ~free & (at != j) & ((at < j) | in_window)
    unseen = alike & ~free & (at != j) & (at > j) & ~in_window
    chunk = alike & (at < j) & (x.step == x.step[j])
    moved.sight.add(moves[seen], at[seen], j, tolerance)
    moved.state.add(moves[unseen | chunk], at[unseen | chunk], j, tolerance)
    if alike[j] and a.rows is not None and b.rows is not None:
        change = apart(a.rows[j], b.rows[j]).max(keepdims=True)
        moved.sight.add(change, own, j, tolerance)
        moved.state.add(change, own, j, tolerance)


def _document_of(tokens: Tokens) -> NDArray[np.int64]:
    """[tokens] where the document begins whose text predicts each target."""
    marks = np.where(tokens == BOS, np.arange(len(tokens)), 0)
    begins = np.maximum.accumulate(marks)
    return np.concatenate([[0], begins[:-1]]).astype(np.int64)


def tried_everywhere(
    evaluate: Evaluate, tokens: Tokens, counts: Tokens, vocab_size: int, probe: Probe
) -> tuple[NLL, list[int]]:
    """For evaluators that show no distribution: at some places try every token, and add up exp(-nll).

    Returns:
        The sums, and the places. Each sum is 1 if the score came from a distribution that was there before.
    """
    before = evaluate(tokens, counts)
    many = max(probe.tried // vocab_size, 1)
    sure = (np.argsort(before.nll[1:], kind="stable") + 1)[: (many + 1) // 2].tolist()
    rng = np.random.default_rng(probe.seed)
    rest = [int(p) for p in rng.permutation(len(tokens)) if p and p not in sure]
    chosen = sorted([*map(int, sure), *rest[: many - len(sure)]])
    sums = np.zeros(len(chosen))
    for i, j in enumerate(chosen):
        for token in range(vocab_size):
            changed = tokens.copy()
            changed[j] = token
            sums[i] += np.exp(-evaluate(changed, counts).nll[j])
    return sums, chosen


def apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """|a - b|, 0 for equal infinities or two NaNs, infinite for a NaN against a number."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf))


def excerpt(tokens: Tokens, counts: Tokens, budget: int) -> tuple[Tokens, Tokens]:
    """A short stream of real text: the beginning, then beginnings of documents of all lengths."""
    if len(tokens) <= budget:
        return tokens.copy(), counts.copy()
    head = budget // 2
    keep = np.zeros(len(tokens), dtype=bool)
    keep[:head] = True
    starts = starts_of(tokens)
    ends = np.append(starts[1:], len(tokens))
    later = np.flatnonzero(starts >= head)
    if not len(later):
        keep[:budget] = True
        return tokens[keep], counts[keep]
    by_length = later[np.argsort((ends - starts)[later], kind="stable")]
    left = budget - head
    picks = np.unique(np.linspace(0, len(by_length) - 1, 24).round().astype(int)).tolist()
    for number, pick in enumerate([picks[-1], *picks[:-1]]):  # half is a long one's, then from short ones up
        begin = int(starts[by_length[pick]])
        length = min(int(ends[by_length[pick]]) - begin, left if number else (left + 1) // 2)
        keep[begin : begin + length] = True
        left -= length
        if left < 2:
            break
    return tokens[keep], counts[keep]
