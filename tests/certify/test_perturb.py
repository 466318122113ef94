"""What may move when a token is another, by worked examples and by what is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.certify.narrow import narrowed
from pgolf.certify.perturb import Answer, Footprint, Probe, apart, declared, excerpt, places, tried_everywhere
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.drive import starts_of
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.evaluate.ttt.phased import Phased
from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from pgolf.formats.ledger import Ledger, gone_by
from tests.nets import BOS, network, small, stream


def test_declared_by_hand():
    """Two documents; the first one's state is told its first chunk, the second begins from everybody's."""
    ledger = Ledger()
    first = ledger.begun(0)
    ledger.scored(0, 0, 1, 3, first)
    told = ledger.updated([(0, 1, 3)], first)
    ledger.scored(0, 0, 3, 5, told)
    ledger.next_round()
    ledger.shared = 0
    second = ledger.begun(1)
    ledger.scored(1, 4, 5, 7, second)
    found = declared(ledger.events(), 7)
    assert found.context.tolist() == [-1, 0, 0, 0, 0, 4, 4]
    assert [np.flatnonzero(row).tolist() for row in found.told] == [[], [], [], [1, 2], [1, 2], [], []]
    assert found.step[1] == found.step[2] != found.step[3]


def test_what_all_were_told_at_a_rounds_end_is_known_from_the_next_round_on():
    ledger = Ledger()
    ledger.scored(-1, 0, 1, 4, ledger.shared)
    ledger.learned([(1, 4)])
    ledger.next_round()
    ledger.scored(-1, 0, 4, 6, ledger.shared)
    told = declared(ledger.events(), 6).told
    assert not told[:4].any()
    assert [np.flatnonzero(row).tolist() for row in told[4:]] == [[1, 2, 3]] * 2


@pytest.mark.parametrize("many", [9, 40, 100])
@pytest.mark.parametrize("mode", [
    Sliding(context=16, stride=5),
    Sliding(context=16, stride=5, ttt=StreamSgd(chunk_tokens=20, sequence_tokens=12, rows=2, epochs=1, lr=0.02)),
    DocumentChunks(context=20, chunk=6, rows=3, ttt=DocumentLora(rank=2, alpha=2.0, lr=0.02, warm_a=True)),
    DocumentChunks(context=20, chunk=6, rows=3, memory=TokenTilt(orders=(1, 2), share_documents=True, round_tokens=20)),
], ids=["plain", "stream sgd", "warm adapters", "shared tilt"])  # fmt: skip
def test_what_the_first_scores_could_go_by_is_what_is_declared_of_them(mode, many):
    ids = stream(5, 100, 6)[0].numpy().astype(np.uint16)
    events = score(mode.predictor(network(small(layers=1))), ids, np.ones_like(ids), mode).events
    whole, found = declared(events, len(ids)), gone_by(events, many)
    assert found[0] is None
    for target in range(1, many):
        told = set(np.flatnonzero(whole.told[target]).tolist())
        if max(told, default=0) >= many:
            assert found[target] is None
        else:
            context, spans = found[target]
            assert context == whole.context[target]
            assert {place for begin, end in spans for place in range(begin, end)} == told


def test_of_a_state_that_nothing_made_nothing_is_known():
    ledger = Ledger()
    ledger.scored(0, 0, 1, 3, 77)
    assert gone_by(ledger.events(), 3) == [None] * 3


def test_apart():
    a = np.array([1.0, np.inf, np.nan, np.nan, 2.0])
    b = np.array([1.5, np.inf, np.nan, 1.0, -np.inf])
    assert apart(a, b).tolist() == [0.5, 0.0, 0.0, np.inf, np.inf]


def test_a_footprint_remembers_the_worst():
    found = Footprint()
    found.add(np.array([0.0, 0.3, 0.2]), np.array([4, 5, 6]), 9, 0.25)
    found.add(np.array([0.1]), np.array([7]), 8, 0.25)
    assert (found.pairs, found.broken, found.worst, found.first) == (4, 1, 0.3, (5, 9))


def test_places_are_edges_gates_the_surest_and_any():
    ids = stream(0, 200, 4)[0].numpy().astype(np.uint16)
    scores = score(Neural(network()), ids, np.ones_like(ids), Sliding(context=20, stride=10))
    differs = np.zeros(200, dtype=bool)
    differs[[31, 77]] = True
    answer = Answer(scores.nll, scores.events, differs=differs)
    found = dict(places(answer, ids, Probe(places=40)))
    assert len(found) == 40
    assert 0 not in found
    assert {31, 77} <= found.keys()
    assert int(np.argmin(scores.nll[1:])) + 1 in found
    assert set(found.values()) == {"edge", "gated", "sure", "anywhere"}
    assert dict(places(answer, ids, Probe(places=500))).keys() == set(range(1, 200))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    length=st.integers(2, 400),
    documents=st.integers(0, 30),
    budget=st.integers(8, 200),
)
def test_an_excerpt_is_short_and_in_the_streams_order(seed, length, documents, budget):
    ids = stream(seed, length, documents)[0].numpy().astype(np.uint16)
    numbers = np.arange(length, dtype=np.uint16)
    tokens, at = excerpt(ids, numbers, budget)
    assert min(length, budget // 2) <= len(tokens) <= max(budget, 1)
    assert (tokens == ids[at]).all()
    assert (np.diff(at.astype(int)) > 0).all()
    jumps = np.flatnonzero(np.diff(at.astype(int)) > 1) + 1
    assert (tokens[jumps] == BOS).all(), "what follows a gap is another document"


def test_an_excerpt_has_a_long_document_and_short_ones():
    lengths = [50, 3, 4, 300, 5, 6, 7, 80]
    ids = np.concatenate([[BOS] + [5] * (n - 1) for n in lengths]).astype(np.uint16)
    tokens, _ = excerpt(ids, ids, 100)
    found = np.diff(np.append(starts_of(tokens), len(tokens)))
    assert found[0] == 50
    assert found.max() >= 25
    assert {3, 4} <= set(found.tolist())


def test_every_token_tried_in_a_place_sums_to_one_for_a_distribution_and_not_for_a_hindsight():
    ids = stream(0, 30, 2, vocab_size=6)[0].numpy().astype(np.uint16)
    logits = np.random.default_rng(0).standard_normal((6, 6))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def honest(tokens, counts):
        return Answer(np.concatenate([[0.0], -log_p[tokens[:-1], tokens[1:]]]))

    def better(tokens, counts):
        return Answer(np.minimum(honest(tokens, counts).nll, np.log(6)))

    probe = Probe(tried=60)
    sums, at = tried_everywhere(honest, ids, ids, 6, probe)
    assert len(sums) == len(set(at)) == 10
    assert sums == pytest.approx(1)
    assert tried_everywhere(better, ids, ids, 6, probe)[0].max() > 1.1


def test_a_mode_is_narrowed_to_a_short_stream_with_all_that_it_holds():
    wide = Sliding(
        context=1024, stride=64, ttt=StreamSgd(), memory=TokenTilt(share_documents=True, document=False)
    )
    narrow = narrowed(wide, 240, 8)
    assert (narrow.context, narrow.stride, narrow.ttt.chunk_tokens, narrow.ttt.sequence_tokens) == (
        40,
        13,
        48,
        24,
    )
    assert narrow.memory.round_tokens == 48
    assert narrow.ttt.lr == wide.ttt.lr
    chunks = DocumentChunks(context=2048, short_chunks=((256, 24), (2000, 40)), ttt=Phased())
    narrow = narrowed(chunks, 240, 8)
    assert narrow.short_chunks == ((256, 13), (2000, 13))
    assert narrow.ttt.prefix_documents == 4


def test_a_mode_that_is_narrow_already_stays():
    mode = DocumentChunks(context=40, chunk=8)
    assert narrowed(mode, 240, 8) is mode
