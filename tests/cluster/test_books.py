"""The books without Ray: verdicts are made up, the study and the files are real."""

import pytest
from optuna.trial import TrialState

from cluster.books import Books, Budget, Results
from cluster.events import TrialFinished, TrialLost
from cluster.gang import Verdict
from cluster.gates import GATE_BPB
from search_spaces.study import Study
from tests.cluster.fakes import Notes, fake_round, result_of


@pytest.fixture
def opened(tmp_path):
    """Opens the books of a driver on the same files; call it again for the next driver."""

    def open_books(*, trials=8, max_concurrent=2, gang_seconds=None, **round_):
        resume = (tmp_path / "study.db").exists()
        study = Study.open(fake_round(**round_), f"sqlite:///{tmp_path}/study.db", resume=resume)
        notes, events = Notes(), []
        budget = Budget(trials, max_concurrent, gang_seconds)
        books = Books(study, Results(tmp_path / "trials"), notes, events.append, budget, lambda result: {})
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
    """A fake trial is charged 10 gang-seconds until it has ended: 21 pay for two at once, not for three."""
    books, *_ = opened(gang_seconds=21, max_concurrent=5)
    first, second = books.next(), books.next()
    assert books.next() == "wait"
    ended_well(books, first, seconds=2.0)
    assert books.next() == "wait"  # 2 spent, 10 promised: another 10 would be 22
    ended_well(books, second, seconds=2.0)
    third = books.next()
    ended_well(books, third, seconds=9.5)
    assert books.next() == "over"
    assert books.stopped_by == "budget"
    assert books.study.committed() <= 21


def test_a_result_on_disk_is_told_by_the_next_driver_and_not_run_again(opened):
    books, *_ = opened()
    first = books.next()
    books.results.write(first.number, result_of(first.config, 1.5, [], 500))  # and there the driver died
    books, notes, _ = opened()
    assert books.next().number == 1
    assert books.study.trials[0].state == TrialState.COMPLETE
    assert ("finished", 0) in [call[:2] for call in notes.calls]


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
