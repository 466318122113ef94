"""The balance of a memory against what is below, target by target in Python's own numbers, and what it costs."""

import math

import numpy as np
import pytest
import torch

from pgolf.evaluate.memory.backoff import Backoff
from pgolf.evaluate.memory.gate import Floats
from pgolf.evaluate.memory.grams import Array
from pgolf.evaluate.memory.knn import Knn
from pgolf.evaluate.memory.ppm import Ppm
from pgolf.evaluate.memory.remembering import Hints, MemorySection, arrays_of
from pgolf.evaluate.memory.trust import Balance, Trust, Trusting, known_targets
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from pgolf.evaluate.predictor import Ask, Predictor
from tests.evaluate.memory.laws import CHEAP, DOCUMENTS, ROUND, WINDOWS, Seen, drive, remembered, table, text
from tests.nets import BOS

TRUST = Trust(belief=0.3, share_rate=0.05)
SHARED = {"share_documents": True, "round_tokens": ROUND}


def moved(w: float, price: float, trust: Trust) -> float:
    """The posterior of two experts after one target, then the share."""
    posterior = w * math.exp(price) / (w * math.exp(price) + 1 - w)
    return (1 - trust.share_rate) * posterior + trust.share_rate * trust.belief


@pytest.mark.parametrize("seed", range(3))
def test_many_targets_at_once_are_one_after_the_other(seed):
    """In chains of very different lengths, told in blocks, of prices large and small."""
    drawn = np.random.default_rng(seed)
    trust = Trust(belief=drawn.uniform(0.05, 0.95), share_rate=10 ** -drawn.uniform(0.5, 4))
    balance, slow = Balance(trust, 3), np.full((4, 3), trust.belief)
    balance.forget()
    balance.open(4)
    for size in (1, 7, 300):
        owner, bucket = drawn.integers(0, 4, size) // 2, drawn.integers(-1, 3, size)
        prices = drawn.normal(size=size) * 10 ** drawn.uniform(-2, 2, size)
        balance.tell(owner, bucket, prices)
        for o, b, price in zip(owner, bucket, prices, strict=True):
            if b >= 0:
                slow[o, b] = moved(slow[o, b], float(np.clip(price, -600, 600)), trust)
        assert np.allclose(balance.own, slow, rtol=1e-9, atol=0)
        said = bucket >= 0
        assert np.array_equal(balance.weights(owner, bucket)[said], balance.own[owner[said], bucket[said]])
        assert (balance.weights(owner, bucket)[~said] == 0).all()


def test_a_worked_example():
    """Even odds, a memory twice as right: 2/3, and a tenth of the way back to a half."""
    balance = Balance(Trust(belief=0.5, share_rate=0.1), 1)
    balance.forget()
    balance.open(1)
    none = np.zeros(1, dtype=np.int64)
    balance.tell(none, none, np.log([2.0]))
    assert balance.own[0, 0] == pytest.approx(0.9 * 2 / 3 + 0.1 * 0.5)


def buckets_of(section: MemorySection, ids: np.ndarray, mode) -> tuple[Seen, Array]:
    """A pass, and by target the bucket that the memory named for it."""
    predictor, found = section.build(CHEAP), np.full(len(ids), -1)
    sureness = predictor.sureness

    def noted(ask: Ask) -> Array:
        found[ask.positions()] = sureness(ask)
        return sureness(ask)

    predictor.sureness = noted
    return drive(predictor, ids, mode), found


SECTIONS = [
    Backoff(orders=(1, 2, 4), alpha=0.5, gate=TRUST),
    Ppm(orders=(1, 3), gate=TRUST),
    Knn(mix=0.5, sharpness=3.0, gate=TRUST),
    UnigramCache(strength=0.3, rate=0.1, gate=TRUST),
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.kind)
def test_a_document_is_mixed_as_by_hand(section):
    """From what is below, what the memory says where it is always believed, and its buckets."""
    ids = text(3)
    gated, bucket = buckets_of(section, ids, DOCUMENTS)
    below, believed = (
        np.exp(x.answers) for x in (drive(CHEAP, ids, DOCUMENTS), remembered(section.but(gate=None), ids))
    )
    w: dict[int, float] = {}
    begin, waiting, said = 0, [], 0
    for target in range(1, len(ids)):
        if ids[target - 1] == BOS:
            begin, w, waiting = target, {}, []
        if (target - begin) % DOCUMENTS.chunk == 0:
            for b, price in waiting:
                w[b] = moved(w.get(b, TRUST.belief), price, TRUST)
            waiting = []
        b, here = int(bucket[target]), ids[target]
        share = w.get(b, TRUST.belief) if b >= 0 else 0.0
        said += b >= 0
        expected = (1 - share) * below[target] + share * believed[target]
        assert np.allclose(np.exp(gated.answers[target]), expected, rtol=1e-9)
        if b >= 0:
            waiting.append((b, math.log(believed[target, here] / below[target, here])))
    assert said > 30


@pytest.mark.parametrize("mode", [DOCUMENTS, WINDOWS], ids=["documents", "windows"])
def test_rounds_are_weighed_for_those_after_them(mode):
    """What a document begins with are the earlier rounds' targets one after the other, as far as they are told."""
    ids = text(4)
    alone = Backoff(orders=(1, 2), alpha=0.5, document=False, gate=TRUST, **SHARED)
    gated, bucket = buckets_of(alone, ids, mode)
    below, believed = (
        np.exp(drive(p, ids, mode).answers) for p in (CHEAP, alone.but(gate=None).build(CHEAP))
    )
    last = last_of_blocks(ids, mode)
    w: dict[int, float] = {}
    for number in range(gated.rounds.max() + 1):
        places = np.flatnonzero(gated.rounds[1:] == number) + 1
        for t in places:
            share = w.get(int(bucket[t]), TRUST.belief) if bucket[t] >= 0 else 0.0
            assert np.allclose(
                np.exp(gated.answers[t]), (1 - share) * below[t] + share * believed[t], rtol=1e-9
            )
        for t in places:
            if bucket[t] >= 0 and t not in last:
                price = math.log(believed[t, ids[t]] / below[t, ids[t]])
                w[int(bucket[t])] = moved(w.get(int(bucket[t]), TRUST.belief), price, TRUST)
    assert len(w) > 2


def last_of_blocks(ids: np.ndarray, mode) -> set[int]:
    """Targets that are no inputs of the block that asks for them."""
    found: set[int] = set()

    class Watched(Predictor):
        def log_probs(self, ask: Ask) -> torch.Tensor:
            found.update((ask.windows[:, 2] - 1).tolist())
            return CHEAP.log_probs(ask)

    drive(Watched(), ids, mode)
    return found


def test_what_a_block_knows_of_its_own_targets():
    ids = torch.arange(100)
    ask = Ask.of(ids, np.array([[0, 3, 6], [10, 12, 13], [20, 21, 23]]))
    rows, targets = known_targets(ask)
    assert rows.tolist() == [0, 1, 4]
    assert targets.tolist() == [3, 4, 21]


class Saying(Trusting):
    """A memory that says one table, whatever came."""

    def __init__(self, section: MemorySection, base: Predictor, p: Floats, balance: Balance) -> None:
        super().__init__(section, base)
        self.p, self.balance = torch.from_numpy(p).log(), balance

    def believed(self, ask: Ask, below: torch.Tensor) -> torch.Tensor:
        return self.p.expand(len(below), -1)

    def sureness(self, ask: Ask) -> Array:
        return np.zeros(ask.targets, dtype=np.int64)

    def shown(self) -> Hints:
        return Hints.none()


RIGHT, WRONG = np.array([0.02, 0.0, 0.5, 0.3, 0.18]) + 1e-9, np.array([0.3, 0.3, 0.05, 0.05, 0.3])
RIGHT = RIGHT / RIGHT.sum()


def cost(below: Floats, memory: Floats, trust: Trust, chunk: int) -> tuple[float, float, int]:
    """Nats of one long document with the memory and without it, and its targets."""
    ids = np.append(
        BOS,
        np.random.default_rng(0).choice(
            5, 999, p=np.where(RIGHT > 1e-6, RIGHT, 0) / RIGHT[RIGHT > 1e-6].sum()
        ),
    )
    mode = DOCUMENTS.but(chunk=chunk)
    predictor = Saying(UnigramCache(), table(below.tolist()), memory, Balance(trust, 1))
    return (
        drive(predictor, ids, mode).nll.sum(),
        drive(table(below.tolist()), ids, mode).nll.sum(),
        len(ids) - 1,
    )


@pytest.mark.parametrize(
    "trust", [Trust(), Trust(belief=0.1, share_rate=0.001), Trust(belief=0.9, share_rate=0.05)]
)
def test_noise_costs_no_more_than_theory_says(trust):
    """-ln(1 - belief) and the shares: whatever comes, which is much less than what noise costs that is believed."""
    mixed, alone, targets = cost(RIGHT, WRONG, trust, chunk=1)
    bound = -math.log(1 - trust.belief) - (targets - 1) * math.log(1 - trust.share_rate * trust.belief)
    assert mixed - alone <= bound + 1e-9
    assert bound < 0.1 * cost(WRONG, RIGHT, trust, chunk=1)[1]


@pytest.mark.parametrize(
    "trust", [Trust(), Trust(belief=0.1, share_rate=0.001), Trust(belief=0.9, share_rate=0.05)]
)
def test_a_memory_that_helps_is_opened(trust):
    mixed, alone, targets = cost(WRONG, RIGHT, trust, chunk=1)
    best = cost(RIGHT, WRONG, trust, chunk=1)[1]
    bound = -math.log(trust.belief) - (targets - 1) * math.log(1 - trust.share_rate * (1 - trust.belief))
    assert mixed - best <= bound + 1e-9
    assert mixed < alone - 0.8 * (alone - best)


def test_in_blocks_noise_is_shut_after_the_first():
    """Of a chunk the first block is believed as it is at first; later ones hardly cost."""
    mixed, alone, _ = cost(RIGHT, WRONG, Trust(), chunk=16)
    assert mixed - alone < 16 * math.log(2) + 999 * 0.01


def test_it_turns_back():
    """A memory that was right for long and is wrong from then on is shut after a few targets."""
    balance = Balance(Trust(belief=0.5, share_rate=0.01), 1)
    balance.forget()
    balance.open(1)
    none = np.zeros(1000, dtype=np.int64)
    balance.tell(none, none, np.full(1000, 1.0))
    assert balance.own[0, 0] > 0.99
    balance.tell(none[:8], none[:8], np.full(8, -1.0))
    assert balance.own[0, 0] < 0.1


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.kind)
def test_the_gate_does_not_look_at_the_target(section):
    ids = text(7)
    before = remembered(section, ids)
    for place in [p for p in range(20, len(ids) - 1, 17) if ids[p] != BOS]:
        changed = ids.copy()
        changed[place] = 2 + (ids[place] - 1) % 7
        assert (remembered(section, changed).answers[place] == before.answers[place]).all()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.kind)
def test_the_log_says_what_the_gate_did(section):
    """How far every proposal was believed, and what all of it would have come to without a gate."""
    ids = text(5)
    plain = drive(CHEAP, ids, DOCUMENTS).nll.sum()
    open_, gated = (remembered(s, ids) for s in (section.but(gate=None), section))
    (log,) = gated.predictor.events()
    assert log.dloss_believed == pytest.approx(float(open_.nll.sum() - plain), abs=1e-9)
    assert log.dloss == pytest.approx(float(gated.nll.sum() - plain), abs=1e-9)
    events = arrays_of([gated.predictor.events()])
    w = events["w"]
    assert len(w) > 5 and (w > 0).all() and (w < 1).all() and len(np.unique(w)) > 1
    assert (arrays_of([open_.predictor.events()])["w"] == 1).all()
