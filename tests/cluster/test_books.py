"""The books without Ray: verdicts are made up, the study and the files are real."""

import signal
import threading
import time
import uuid
from contextlib import nullcontext

import pytest
from optuna.trial import TrialState

from cluster import driver, finalists
from cluster.books import Books, Budget, Results
from cluster.events import SearchStarted, TrialFinished, TrialLost
from cluster.gang import Verdict
from cluster.gates import GATE_BPB
from pgolf.errors import StoreError
from pgolf.stage import Store
from search_spaces.study import MOST_ATTEMPTS, Study
from services.leaderboard import Row, rank_rows
from tests.cluster.fakes import FakeConfig, Notes, fake_round, result_of


@pytest.fixture
def opened(tmp_path):
    """Opens the books of a driver on the same files; call it again for the next driver."""

    def open_books(*, trials=8, max_concurrent=2, gang_seconds=None, **round_):
        resume = (tmp_path / "study.db").exists()
        study = Study.open(fake_round(**round_), f"sqlite:///{tmp_path}/study.db", resume=resume)
        notes, events = Notes(), []
        budget = Budget(trials, max_concurrent, gang_seconds)
        books = Books(
            study, Results(Store(tmp_path), "fake"), notes, events.append, budget, lambda result: {}
        )
        books.open("store")
        return books, notes, events

    return open_books


def ended_well(books, assignment, bpb=1.5, seconds=1.0):
    books.ended(assignment.number, Verdict("result", result_of(assignment.config, bpb, [], 500)), seconds)


def test_no_more_trials_run_at_once_than_allowed(opened):
    books, *_ = opened(max_concurrent=2)
    first = books.next()
    books.next()
    assert books.next() == "wait"
    ended_well(books, first)
    assert books.next().number == 2


def test_it_is_over_only_when_nothing_runs_any_more(opened):
    books, *_ = opened(trials=2)
    first, second = books.next(), books.next()
    ended_well(books, first)
    assert books.next() == "wait"  # the second might be lost, and then is handed out again
    books.lost(second.number, "its node is gone")
    again = books.next()
    assert again.number == second.number
    ended_well(books, again)
    assert books.next() == "over"
    assert books.stopped_by == "trials"


def test_spend_is_committed_before_it_happens_so_a_budget_is_never_passed(opened):
    """A fake trial is charged 20 gang-seconds until it has ended, and 10 for its scoring: 61 pay for two at once."""
    books, *_ = opened(gang_seconds=61, max_concurrent=5)
    first, second = books.next(), books.next()
    assert books.next() == "wait"
    ended_well(books, first, seconds=2.0)
    assert books.next() == "wait"  # 2 spent, 20 promised: a third makes it 42, and 30 for the finalists
    ended_well(books, second, seconds=2.0)
    third = books.next()
    ended_well(books, third, seconds=9.5)
    assert books.next() == "over"
    assert books.stopped_by == "budget"
    scored = finalists.score(
        books, lambda result, stop: (Verdict("result", result.but(validation_bpb=1.6)), 10.0)
    )
    assert scored == {}
    assert books.study.committed() == 2 + 2 + 9.5 + 3 * 10 <= 61


def test_a_study_whose_trials_take_longer_than_their_clocks_charges_what_the_dearest_took(opened):
    books, *_ = opened(gang_seconds=199, max_concurrent=5)
    ended_well(books, books.next(), seconds=70.0)  # data, quantization and packing have no cap
    books.next()  # 70 spent, 70 promised, 20 for scoring
    assert books.next() == "wait"


def test_a_result_on_disk_is_told_by_the_next_driver_and_not_run_again(opened):
    books, *_ = opened()
    first = books.next()
    books.results.write(first.number, result_of(first.config, 1.5, [], 500))  # and there the driver died
    books, notes, _ = opened()
    assert books.next().number == 1
    assert books.study.trials[0].state == TrialState.COMPLETE
    assert ("finished", 0) in [call[:2] for call in notes.calls]


def test_a_result_on_disk_outweighs_any_number_of_dead_drivers(opened):
    """The third driver in a row died between the result file and the study: the trial is told, not failed."""
    for _ in range(MOST_ATTEMPTS):
        books, *_ = opened()
        last = books.next()
        assert last.number == 0
    books.results.write(0, result_of(last.config, 1.5, [], 500))
    books, notes, _ = opened()
    assert books.study.trials[0].state == TrialState.COMPLETE
    assert [call[0] for call in notes.calls] == ["finished"]


def test_a_trial_that_no_driver_finished_is_given_up_on_and_recorded_as_lost(opened):
    for _ in range(MOST_ATTEMPTS):
        books, *_ = opened()
        assert books.next().number == 0
    books, notes, events = opened()
    assert books.study.trials[0].state == TrialState.FAIL
    assert notes.calls == [("lost", 0, "its driver died too often")]
    assert [type(event) for event in events] == [SearchStarted, TrialLost]
    assert events[0].again == ()
    assert books.next().number == 1


class Killed(BaseException):
    """What a test throws where a driver dies."""


def killed(*anything):
    raise Killed


def test_a_driver_that_dies_while_it_fails_a_lost_trial_leaves_it_to_be_failed_by_the_next(
    opened, monkeypatch
):
    books, *_ = opened()
    for _ in range(2):
        number = books.next().number
        with monkeypatch.context() as patch:
            patch.setattr(Notes, "trial_finished", killed)
            with (
                pytest.raises(Killed) if books.study.trials[0].user_attrs["attempts"] == 2 else nullcontext()
            ):
                books.lost(number, "its node is gone")
    assert books.study.trials[0].state == TrialState.RUNNING
    books, notes, _ = opened()
    assert books.study.trials[0].state == TrialState.FAIL
    assert [call[:2] for call in notes.calls] == [("finished", 0)]
    assert notes.calls[0][2].status == "failed"


def test_a_validation_score_that_the_recorder_never_heard_of_is_recorded_on_opening(opened, monkeypatch):
    books, *_ = opened()
    for bpb in (1.5, 1.6):
        ended_well(books, books.next(), bpb)
    monkeypatch.setattr(Notes, "trial_finished", killed)
    with pytest.raises(Killed):
        books.amend(0, books.finished[0].but(validation_bpb=1.52))
    monkeypatch.undo()
    _, notes, _ = opened()
    assert [(kind, number, result.validation_bpb) for kind, number, result in notes.calls] == [
        ("finished", 0, 1.52)
    ]


def test_a_file_of_another_studys_trial_is_not_taken_for_a_result(opened):
    books, *_ = opened()
    first = books.next()
    other = first.config.but(x=0.123)
    books.results.write(first.number, result_of(other, 1.5, [], 500))
    books, *_ = opened()
    assert books.finished == {}
    assert books.next().number == first.number


def test_a_fault_is_recorded_with_its_last_lines_and_the_search_goes_on(opened):
    books, notes, events = opened()
    books.ended(books.next().number, Verdict("error", why="rank 0: ZeroDivisionError: a bug"), 1.0)
    assert books.finished[0].status == "failed"
    assert "ZeroDivisionError" in (books.finished[0].error or "")
    assert books.study.trials[0].state == TrialState.FAIL
    assert books.next().number == 1
    assert notes.calls[-2][0] == "finished"
    assert isinstance(events[-2], TrialFinished)


def test_a_gang_that_dies_twice_under_a_trial_fails_it(opened):
    books, notes, events = opened()
    for _ in range(2):
        assignment = books.next()
        books.ended(assignment.number, Verdict("death", why="rank 1: killed"), 1.0)
    assert [event.again for event in events if isinstance(event, TrialLost)] == [True, False]
    assert books.finished[0].status == "failed"
    assert [call for call in notes.calls if call[0] == "lost"] == [("lost", 0, "rank 1: killed")] * 2
    assert books.next().number == 1


def test_the_gate_of_the_next_trial_is_what_earlier_ones_measured(opened):
    books, *_ = opened(max_concurrent=4)
    first = books.next()
    assert first.gate.limit_bpb is None
    books.heard(first.number, [(1, {"val_bpb": 2.0, GATE_BPB: 2.0})])
    assert books.next().gate.limit_bpb == pytest.approx(2.0 * 1.05)


def test_ranking_is_by_bpb_among_the_feasible_alone(opened):
    books, *_ = opened(max_concurrent=4)
    verdicts = [(1.6, 500), (1.2, 5000), (1.4, 500)]
    for bpb, size in verdicts:
        assignment = books.next()
        books.ended(assignment.number, Verdict("result", result_of(assignment.config, bpb, [], size)), 1.0)
    assert books.ranked() == [2, 0]
    assert books.best() == 2


def test_equal_bpb_is_ordered_by_the_rest_of_the_deployed_tuple_as_on_the_board(opened):
    books, *_ = opened(max_concurrent=4)
    rows = []
    for size in (700, 500, 600, 500):
        assignment = books.next()
        result = result_of(assignment.config, 1.5, [], size)
        books.ended(assignment.number, Verdict("result", result), 1.0)
        shipped = dict(result.tuple)
        rows.append(Row(status="ok", name="", recipe="", number=assignment.number, feasible=True, **shipped))
    assert books.ranked() == [1, 3, 2, 0]
    assert books.ranked() == [row.number for row in rank_rows(rows)]


def test_results_lie_in_the_store_itself_and_a_far_store_is_read_by_the_next_machine():
    far = Store(f"memory://pgolf-{uuid.uuid4().hex}")
    results, made = Results(far, "fake"), result_of(FakeConfig(), 1.5, [], 500)
    assert results.all() == {}
    results.write(3, made)
    results.write(3, made.but(validation_bpb=1.6))
    results.write(12, made)
    assert not (far.directory / "trials").exists()
    assert far.fs.exists(f"{far.base}/trials/fake/00003.json")
    assert Results(far, "fake").all() == {3: made.but(validation_bpb=1.6), 12: made}


def test_an_interrupt_while_finalists_are_scored_ends_their_gangs_and_is_the_outcome(opened, monkeypatch):
    books, *_ = opened(trials=1)
    ended_well(books, books.next())
    told = []

    def scorer(result, stop):
        time.sleep(1.0)  # by then the pool waits for its threads, and not for their start
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        told.append(stop.wait(10))
        return Verdict("error", why="interrupted"), 1.0

    monkeypatch.setattr(driver, "_score_finalists", lambda books, *anything: finalists.score(books, scorer))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        assert driver._run(books, None, None, None) == ("interrupt", {})
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == [True]
    assert books.finished[0].validation_bpb is None


def test_a_damaged_result_is_named(tmp_path):
    results = Results(Store(tmp_path), "fake")
    results.write(0, result_of(FakeConfig(), 1.5, [], 500))
    file = tmp_path / "trials" / "fake" / "00000.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(StoreError, match=r"00000\.json"):
        results.all()
