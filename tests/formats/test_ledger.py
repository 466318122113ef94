"""The ledger's checker: every target once, from its past, by a state that had been told nothing of it or too early."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.formats.ledger import (
    COLUMNS,
    Kind,
    Ledger,
    audit,
    check_once,
    column,
    in_causal_order,
    read_ledger,
    write_ledger,
)
from tests.evaluate.ledgers import events_of

STARTS = np.array([0, 5])  # two documents in ten tokens: targets 1 .. 5 and 6 .. 9


def check(*windows: tuple[int, int, int], tokens: int = 10) -> str | None:
    return check_once(events_of(np.array(windows, dtype=np.int64).reshape(-1, 3)), tokens)


def test_windows_that_tile_the_targets_hold():
    assert check((0, 1, 5), (1, 5, 9), (5, 9, 10)) is None
    assert check((0, 5, 10), (0, 1, 5)) is None  # in any order


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([(0, 1, 5), (1, 6, 10)], "target 5 was scored 0 times"),
        ([(0, 1, 6), (1, 5, 10)], "target 5 was scored 2 times"),
        ([(0, 1, 9)], "target 9 was scored 0 times"),
        ([], "target 1 was scored 0 times"),
        ([(0, 1, 10), (0, 1, 2)], "target 1 was scored 2 times"),
        ([(0, 0, 10)], "has no past"),
        ([(-1, 0, 10)], "has no past"),
        ([(3, 3, 10), (0, 1, 3)], "has no past"),
        ([(4, 3, 10), (0, 1, 3)], "has no past"),
        ([(0, 1, 11)], "leaves the stream"),
        ([(0, 5, 4), (0, 1, 10)], "has no past"),
        ([(-2, 1, 10)], "has no past"),
    ],
)
def test_gap_overlap_and_a_missing_past_are_caught(windows, words):
    assert words in str(check(*windows))


@given(cuts=st.sets(st.integers(2, 29), max_size=8), drop=st.data())
def test_any_tiling_holds_and_any_shifted_edge_breaks_it(cuts, drop):
    edges = [1, *sorted(cuts), 30]
    windows = [(max(begin - 7, 0), begin, end) for begin, end in pairwise(edges)]
    assert check(*windows, tokens=30) is None
    at = drop.draw(st.integers(0, len(windows) - 1))
    context, begin, end = windows[at]
    for spoilt in ((context, begin, end - 1), (context, begin, end + 1), (begin, begin, end)):
        assert check(*windows[:at], spoilt, *windows[at + 1 :], tokens=30) is not None
    assert check(*windows[:at], *windows[at + 1 :], tokens=30) is not None


def test_a_ledger_comes_back(tmp_path):
    events = events_of(np.array([[0, 1, 4]]))
    nll = np.array([0, 0.1, 1e-17, 3.0])
    write_ledger(tmp_path, events, nll)
    again = read_ledger(tmp_path)
    assert (again[0] == events).all()
    assert (again[1] == nll).all()
    assert again[1].dtype == np.float64
    assert again[0].shape[1] == len(COLUMNS)


# ---------------------------------------------------------------------------------- what states know


def by_document(ledger: Ledger, *, told_first: bool = False, told: int = 4, carry: bool = False) -> Ledger:
    """The first document in two chunks with an update between them, then the second one in one."""
    state = ledger.begun(0)
    if told_first:
        state = ledger.updated([(0, 1, told)], state)
    ledger.scored(0, 0, 1, 4, state)
    if not told_first:
        state = ledger.updated([(0, 1, told)], state)
    ledger.scored(0, 0, 4, 6, state)
    second = ledger.begun(1, state if carry else None)
    ledger.scored(1, 5, 6, 10, second)
    return ledger


def test_adaptation_between_the_chunks_of_a_document_is_lawful_and_documents_are_independent():
    found = audit(by_document(Ledger()).events(), 10, STARTS)
    assert found.holds
    assert found.order == "document_independent"
    assert (found.scores, found.updates, found.update_tokens) == (3, 1, 3)
    assert found.update_lead == -1, "what was known ended one before what was scored"


def test_what_goes_on_into_the_next_document_is_in_stream_order():
    found = audit(by_document(Ledger(), carry=True).events(), 10, STARTS)
    assert found.holds
    assert found.order == "stream"


def test_what_is_told_before_its_score_is_caught():
    found = audit(by_document(Ledger(), told_first=True).events(), 10, STARTS)
    assert found.rule == "L5"
    assert "target 1 before its score" in str(found.broken)
    found = audit(by_document(Ledger(), told=6).events(), 10, STARTS)
    assert "told target 4 before its score" in str(found.broken)


def test_a_state_that_was_told_a_target_does_not_score_it_whoever_told_it():
    """The clocks are lawful: another rank scored the target first. The state that scores it anew knows it."""
    one, other = Ledger(rank=0), Ledger(rank=1)
    one.scored(0, 0, 1, 6, one.shared)
    one.learned([(1, 6)])
    one.next_round()
    other.next_round()
    events = one.events()
    again = events.copy()
    again[0, COLUMNS.index("round")] = 1  # the score of round 0 is said to have been written in round 1
    assert "before its score" in str(audit(again, 6, STARTS[:1]).broken)
    other.shared = one.shared
    other.scored(0, 0, 6, 10, other.shared)
    found = audit(np.concatenate([events, other.events()]), 10, STARTS)
    assert found.holds
    assert found.order == "stream"
    assert found.rounds == 2


def test_a_later_document_that_was_learned_first_is_reordered_carry():
    ledger = Ledger()
    ledger.scored(1, 5, 6, 10, ledger.shared)
    ledger.learned([(6, 10)])
    ledger.next_round()
    ledger.scored(0, 0, 1, 6, ledger.shared)
    found = audit(ledger.events(), 10, STARTS)
    assert found.holds
    assert found.order == "reordered_carry"
    assert found.update_lead == 8


def test_what_a_round_learned_comes_after_every_rank_of_it():
    first, second = Ledger(rank=0), Ledger(rank=1)
    first.learned([(1, 6)])  # its first event; the other rank's is as early
    second.scored(1, 5, 6, 10, second.shared)
    kinds = column(in_causal_order(np.concatenate([first.events(), second.events()])), "kind")
    assert kinds.tolist() == [Kind.SCORE, Kind.LEARN]


def test_states_that_nobody_made_or_two_made_are_caught():
    events = by_document(Ledger()).events()
    unknown = events.copy()
    unknown[column(events, "kind") == Kind.SCORE, COLUMNS.index("before")] = 77
    assert "state 77 was never made" in str(audit(unknown, 10, STARTS).broken)
    twice = np.concatenate([events[:1], events])
    twice[1:, COLUMNS.index("event")] += 1
    assert "was made twice" in str(audit(twice, 10, STARTS).broken)


def test_an_update_of_no_targets_is_caught():
    events = by_document(Ledger()).events()
    for begin, end in ((0, 3), (4, 4), (3, 99)):
        spoilt = events.copy()
        row = np.flatnonzero(column(events, "kind") == Kind.UPDATE)[0]
        spoilt[row, COLUMNS.index("begin")], spoilt[row, COLUMNS.index("end")] = begin, end
        assert "are no targets" in str(audit(spoilt, 10, STARTS).broken)


def test_only_the_first_rank_writes_down_what_all_learned():
    first, second = Ledger(rank=0), Ledger(rank=1)
    for ledger in (first, second):
        ledger.learned([(1, 4), (6, 9)])
    assert len(first.events()) == 2
    assert len(second.events()) == 0
    assert first.shared == second.shared


@given(seed=st.integers(0, 2**31))
def test_any_event_moved_to_where_it_may_not_be_is_caught(seed):
    """An update moved before the score that it depends on; a score by the state after it."""
    ledger = Ledger()
    state = ledger.begun(0)
    rng = np.random.Generator(np.random.PCG64(seed))
    edges = [1, *sorted(rng.choice(np.arange(2, 30), size=6, replace=False).tolist()), 30]
    for begin, end in pairwise(edges):
        ledger.scored(0, 0, begin, end, state)
        state = ledger.updated([(0, begin, end)], state)
    events = ledger.events()
    assert audit(events, 30, STARTS[:1]).holds
    number = int(rng.integers(0, len(edges) - 1))
    update = 2 + 2 * number
    early = events.copy()
    at = COLUMNS.index("event")
    early[update, at], early[update - 1, at] = early[update - 1, at], early[update, at]
    assert audit(early, 30, STARTS[:1]).rule == "L5"
    knowing = events.copy()
    knowing[update - 1, COLUMNS.index("before")] = knowing[update, COLUMNS.index("after")]
    assert audit(knowing, 30, STARTS[:1]).rule == "L5"
