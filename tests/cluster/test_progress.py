import io

from rich.console import Console

from cluster.events import SearchStarted, TrialFinished, TrialLost, TrialProgress, TrialStarted
from cluster.progress import Progress
from pgolf.errors import Infeasible
from tests.cluster.fakes import FakeConfig, fake_round, result_of


def rendered(*events, terminal=False):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, highlight=False)
    with Progress(console) as say:
        for event in events:
            say(event)
    return console.file.getvalue()


STARTED = SearchStarted(fake_round(), "store", 8, 3, (4, 5), 3600.0)


def test_in_a_log_there_are_plain_lines_only():
    finished = TrialFinished(0, result_of(FakeConfig(), 1.5, [], 500), 0, 1.5)
    text = rendered(STARTED, TrialStarted(0, "a-1", 1), TrialProgress(0, 1, {"progress": 0.5}), finished)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 7
    line = text.splitlines()[-1]
    assert "1.5000" in line
    assert "500" in line
    assert "50.0%" in line
    assert "(#0)" in line


def test_on_a_terminal_a_live_line_says_what_runs():
    text = rendered(STARTED, TrialStarted(7, "a-1", 1), TrialProgress(7, 1, {"progress": 0.5}), terminal=True)
    assert "#7 train 50%" in text


def test_the_live_line_says_what_is_waited_for_before_and_after_the_trials():
    assert "starting Ray" in rendered(terminal=True)
    one = SearchStarted(fake_round(), "store", 1, 0, (), None)
    finished = TrialFinished(0, result_of(FakeConfig(), 1.5, [], 500), 0, 1.5)
    assert "waiting for a gang" in rendered(one, terminal=True)
    assert "scoring the finalists" in rendered(one, TrialStarted(0, "a-1", 1), finished, terminal=True)


def test_what_was_resumed_is_said():
    assert "3 trials finished before; handed out again: 4, 5" in rendered(STARTED)


def test_an_infeasible_trial_says_what_it_broke_and_by_how_much():
    broken = Infeasible(reason="gate", measured=2.5, limit=2.0)
    text = rendered(STARTED, TrialFinished(1, result_of(FakeConfig(), None, [broken]), None, None))
    assert "gate: 2.5, limit 2" in text


def test_a_loss_is_said_with_what_becomes_of_the_trial():
    text = rendered(
        STARTED, TrialLost(3, "rank 1: killed", again=True), TrialLost(3, "rank 1: killed", again=False)
    )
    assert "3  lost (handed out again): rank 1: killed" in text
    assert "3  lost (given up)" in text
