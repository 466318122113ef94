"""The laws that every memory obeys. Subclass, say which sections, inherit the tests.

Answers are looked at whole: not only what the target scored, but the distribution at every position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.drive import Pass, extent_of, one_by_one, starts_of, targets_of
from pgolf.evaluate.memory.remembering import MemorySection
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.neural import Plain
from pgolf.evaluate.predictor import Ask, Predictor
from pgolf.evaluate.sliding import Sliding
from pgolf.formats.ledger import Audit, Events, audit
from tests.nets import BOS, VOCAB

DOCUMENTS = DocumentChunks(context=40, chunk=6, rows=3)
WINDOWS = Sliding(context=24, stride=7)
ROUND = 40  # targets
CLOSE = 1e-9


def text(seed: int = 0, length: int = 170, vocab: int = 9) -> np.ndarray:
    """Documents that repeat themselves and one another: a memory finds something."""
    drawn = np.random.default_rng(seed)
    motifs = [drawn.integers(2, vocab, n) for n in (3, 5, 8, 12)]
    out: list[int] = [BOS]
    while len(out) < length:
        out += motifs[drawn.integers(len(motifs))].tolist()
        out += drawn.integers(2, vocab, drawn.integers(0, 3)).tolist()
        if drawn.random() < 0.25:
            out.append(BOS)
    return np.array(out[:length])


class Cheap(Predictor):
    """Stands for a network: a causal function of the document's inputs, with a last state, in float64 and at once."""

    def __init__(self, vocab: int = VOCAB, width: int = 6) -> None:
        drawn = torch.Generator().manual_seed(5)
        self.embedding = torch.randn(vocab, width, generator=drawn, dtype=torch.float64)
        self.head = 1.5 * torch.randn(width, vocab, generator=drawn, dtype=torch.float64)

    def log_probs(self, ask: Ask) -> torch.Tensor:
        time = torch.arange(ask.tokens.shape[1])
        same = ask.starts.cumsum(1)
        seen = (same[:, :, None] == same[:, None, :]) & (time[:, None] >= time)
        decay = torch.where(seen, 0.5 ** (time[:, None] - time).clamp_min(0).double(), 0.0)
        self.latest = ask.asked(decay @ self.embedding[ask.tokens]).tanh()
        return (self.latest @ self.head).log_softmax(1)

    def states(self) -> torch.Tensor:
        return self.latest


CHEAP = Cheap()


@dataclass
class Seen:
    """What a pass over a stream answered."""

    answers: np.ndarray  # [tokens, vocab] log-probabilities
    rounds: np.ndarray  # [tokens] in which each target was scored
    events: Events
    ids: np.ndarray
    predictor: Predictor

    @property
    def nll(self) -> np.ndarray:
        return -self.answers[np.arange(1, len(self.ids)), self.ids[1:]]

    def audit(self) -> Audit:
        return audit(self.events, len(self.ids), starts_of(self.ids))


def drive(predictor: Predictor, ids: np.ndarray, mode: Mode, growing: bool = False) -> Seen:
    """A pass that keeps every distribution; `growing` asks for one position after the other, as the coder does."""
    extent, rounds = extent_of(starts_of(ids), len(ids), predictor, mode, 1)
    stream = torch.from_numpy(ids.astype(np.int64))
    answers, when = np.zeros((len(ids), 0)), np.zeros(len(ids), dtype=int)

    def keep(places: Sequence[int], found: torch.Tensor) -> None:
        nonlocal answers
        if answers.shape[1] == 0:
            answers = np.full((len(ids), found.shape[1]), np.nan)
        answers[places] = found.numpy()
        when[places] = made.ledger.round

    def visit(ask: Ask) -> Ask:
        if not growing:
            keep(ask.positions(), predictor.log_probs(ask))
            predictor.noted(ask, targets_of(stream, ask))
            return ask
        for part in one_by_one(ask, stream):
            keep(part.positions(), predictor.log_probs(part))
        if made.asks_whole(ask):
            predictor.log_probs(ask)
        return ask

    made = Pass(predictor, extent, rounds)
    made.run(stream, visit)
    return Seen(answers, when, made.ledger.events(), ids, predictor)


def remembered(
    section: MemorySection, ids: np.ndarray, mode: Mode = DOCUMENTS, growing: bool = False
) -> Seen:
    return _remembered(section, tuple(ids.tolist()), mode, growing)


@cache
def _remembered(section: MemorySection, ids: tuple[int, ...], mode: Mode, growing: bool) -> Seen:
    return drive(section.build(CHEAP), np.array(ids), mode, growing)


class MemoryLaws:
    """Subclass with SECTIONS: the technique in a few settings, of documents alone."""

    SECTIONS: Sequence[MemorySection] = ()
    SHARES = True  # whether it can remember other documents

    @property
    def shared(self) -> list[MemorySection]:
        """The same with earlier rounds, and with nothing else."""
        if not self.SHARES:
            return []
        alone = {"document": False, "share_documents": True, "round_tokens": ROUND}
        return [self.SECTIONS[0].but(**{**alone, "document": True}), self.SECTIONS[-1].but(**alone)]

    @pytest.mark.parametrize("seed", range(2))
    def test_every_answer_sums_to_one(self, seed):
        """At every position, gated or not, and where nothing is remembered yet."""
        for section in (*self.SECTIONS, *self.shared):
            answers = remembered(section, text(seed)).answers[1:]
            assert np.abs(np.exp(answers).sum(1) - 1).max() < 1e-9

    def test_it_remembers_something(self):
        plain = drive(CHEAP, text(), DOCUMENTS).answers[1:]
        for section in (*self.SECTIONS, *self.shared):
            moved = np.abs(remembered(section, text()).answers[1:] - plain).max(1) > 1e-6
            assert moved.any()

    def test_a_block_asked_for_position_by_position_is_answered_alike(self):
        for section in (*self.SECTIONS, *self.shared):
            whole, grown = (remembered(section, text(), growing=g).answers[1:] for g in (False, True))
            assert np.abs(np.exp(whole) - np.exp(grown)).max() < CLOSE

    def test_a_changed_token_changes_nothing_that_was_scored_before_it(self):
        """Nor anything in other documents, but for what later rounds were taught."""
        ids = text(1)
        document = np.cumsum(ids == BOS)
        for section in (*self.SECTIONS, *self.shared):
            before = remembered(section, ids)
            for place in (4, 23, 58, 101):
                if ids[place] == BOS:
                    continue
                changed = ids.copy()
                changed[place] = 2 + (ids[place] - 1) % 7
                after = remembered(section, changed)
                moved = np.flatnonzero((before.answers != after.answers).any(1)[1:]) + 1
                for target in moved.tolist():
                    own = document[target - 1] == document[place] and target > place
                    taught = section.share_documents and before.rounds[target] > before.rounds[place]
                    assert own or taught, f"{section} {place} {target}"

    def test_documents_are_islands_unless_they_are_shared(self):
        for section in self.SECTIONS:
            assert remembered(section, text()).audit().order == "document_independent"
        for section in self.shared:
            held = remembered(section, text()).audit()
            assert held.holds and held.order == "stream" and held.rounds > 2

    def test_a_document_scores_the_same_wherever_it_stands(self):
        ids = text(2)
        second = np.flatnonzero(ids == BOS)[1]
        for section in self.SECTIONS:
            alone, among = remembered(section, ids[second:]), remembered(section, ids)
            assert np.abs(alone.answers[1:] - among.answers[second + 1 :]).max() < 1e-5

    def test_a_stream_in_windows_is_taught_by_its_earlier_rounds(self):
        for section in self.shared:
            seen = remembered(section, text(), WINDOWS)
            assert np.abs(np.exp(seen.answers[1:]).sum(1) - 1).max() < 1e-9
            assert seen.audit().holds

    def test_it_can_stand_over_another(self):
        """Over a bias on the output, and under one: two clocks, two logs, one distribution."""
        from pgolf.evaluate.memory.unigram_cache import UnigramCache

        for section in self.SECTIONS[:1]:
            for chain in (section.but(base=UnigramCache(rate=0.1)), UnigramCache(rate=0.1, base=section)):
                seen = remembered(chain, text())
                assert np.abs(np.exp(seen.answers[1:]).sum(1) - 1).max() < 1e-9
                assert len(seen.predictor.events()) == 2

    def test_two_passes_of_one_predictor_are_the_same(self):
        """Nothing is left of the first."""
        for section in (*self.SECTIONS, *self.shared):
            first = remembered(section, text())
            again = drive(first.predictor, text(), DOCUMENTS)
            assert (first.answers[1:] == again.answers[1:]).all()

    def test_its_log_says_what_was_gained(self):
        for section in self.SECTIONS:
            seen = remembered(section, text())
            (log,) = seen.predictor.events()
            plain = drive(CHEAP, text(), DOCUMENTS)
            assert log.targets == len(seen.nll)
            assert log.dloss == pytest.approx(float(seen.nll.sum() - plain.nll.sum()), abs=1e-9)


def table(probabilities: Sequence[float]) -> Plain:
    """A network that predicts the same whatever it sees."""
    logits = torch.tensor(probabilities, dtype=torch.float64).log()
    return Plain(lambda tokens, starts: logits.expand(*tokens.shape, -1))


def uniform(vocab: int = VOCAB) -> Plain:
    return table([1 / vocab] * vocab)
