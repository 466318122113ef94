"""The driver on real Ray: gangs that meet, ranks that die, drivers that are killed."""

import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from cluster.driver import only_driver, search
from cluster.session import check_machine
from pgolf.errors import ConfigError, UserError
from pgolf.formats.result import Result
from pgolf.rules import PARAMETER_GOLF
from pgolf.stage import Store
from tests.cluster.fakes import FAKE_GPUS, Notes, fake_round, run_trial, traced, validate, with_mishaps

SILENT = {"say": lambda event: None}


def run(round_, store, **arguments):
    notes = Notes()
    given = {
        "trial_runner": run_trial,
        "validator": validate,
        "open_recorder": notes.open,
        **SILENT,
        **arguments,
    }
    return search(round_, store=store, **given), notes


def live_groups(ray):
    table = ray.util.placement_group_table()
    return [group for group in table.values() if group["state"] != "REMOVED"]


def study_of(store, name="fake"):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.load_study(study_name=name, storage=f"sqlite:///{store.directory}/study.db")


# ------------------------------------------------------------------------------- before anything runs


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"trials": 0}, "trials of a round is at least 1"),
        ({"gpu_hours": 0.0}, "--gpu-hours is a positive number"),
        ({"usd": float("nan")}, "--usd is a positive number"),
        ({"usd": 10.0}, "--usd needs a price"),
        ({"gpu_hours": 0.001}, "pays for one trial"),
        ({"study_storage": "nonsense"}, "URL of a database"),
        ({"ray_address": "127.0.0.1:1"}, "Ray cluster that answers"),
        ({"ray_address": "ray://127.0.0.1:1"}, "Ray cluster that answers"),
        ({"ray_address": "nonsense"}, "Ray cluster that answers"),
        ({"resume": True}, "there is none for 'fake'"),
    ],
)
def test_a_mistake_is_named_in_three_lines_and_the_store_is_not_touched(tmp_path, arguments, says):
    with pytest.raises(UserError, match=says) as caught:
        run(fake_round(), Store(tmp_path / "store"), **arguments)
    assert len(str(caught.value).splitlines()) <= 3
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "given", [{}, {"tracking_uri": "http://127.0.0.1:5000"}, {"study_storage": "sqlite://"}]
)
def test_a_far_store_is_refused_unless_study_and_records_lie_beyond_this_machine_too(given):
    store = Store(f"memory://pgolf-{uuid.uuid4().hex}")
    with pytest.raises(UserError, match="a store given as a URL") as caught:
        run(fake_round(), store, **given)
    assert len(str(caught.value).splitlines()) <= 3
    assert not store.directory.exists()


def test_a_gang_that_this_machine_cannot_hold_is_refused_instead_of_waited_for():
    with pytest.raises(UserError, match="8 GPUs"):
        check_machine(PARAMETER_GOLF)


def test_two_drivers_do_not_work_on_one_study(tmp_path):
    lock = tmp_path / "lock"
    with only_driver(lock), pytest.raises(UserError, match="one driver at a time"), only_driver(lock):
        pass
    with only_driver(tmp_path / "lock"):
        pass


def test_a_price_turns_dollars_into_gang_seconds():
    from cluster.driver import _gang_seconds

    assert _gang_seconds(PARAMETER_GOLF, None, 24.0) == 3600
    assert _gang_seconds(PARAMETER_GOLF, 8.0, None) == 3600
    assert _gang_seconds(PARAMETER_GOLF, 8.0, 12.0) == 1800
    with pytest.raises(ConfigError):
        _gang_seconds(PARAMETER_GOLF, -1.0, None)


# ------------------------------------------------------------------------------------------- on Ray


@pytest.mark.heavy
@pytest.mark.xdist_group("ray")
def test_a_process_that_is_connected_takes_no_address(tmp_path, pretended_gpus):
    for address, says in [
        ("127.0.0.1:1", "Ray cluster that answers"),
        (pretended_gpus.get_runtime_context().gcs_address, "stays there"),
    ]:
        with pytest.raises(UserError, match=says):
            run(fake_round(), Store(tmp_path / "store"), ray_address=address)
    assert not (tmp_path / "store").exists()
    assert pretended_gpus.is_initialized()


@pytest.mark.heavy
@pytest.mark.xdist_group("ray")
def test_two_ranks_on_pretended_gpus_reduce_and_a_killed_rank_or_a_bug_costs_its_trial_alone(
    tmp_path, pretended_gpus
):
    store = Store(tmp_path)
    round_ = fake_round(rules=FAKE_GPUS, warm_starts={}, trials=7, gate=None, seed=5)
    outcome, notes = run(round_, store, trial_runner=with_mishaps)
    trials = study_of(store).trials
    by_luck = {
        t.number: "bug" if t.params["x"] < 0.25 else "killed" if t.params["x"] < 0.5 else "well"
        for t in trials
    }
    assert set(by_luck.values()) == {"bug", "killed", "well"}, "the seed shows each of them"
    for number, luck in by_luck.items():
        x, result = trials[number].params["x"], outcome.results[number]
        starts = [line for line in traced(store) if line.startswith(f"start {x!r} ")]
        if luck == "well":
            assert result.bpb == pytest.approx(2.0 - x)
            assert {line.split(" pid")[0] for line in starts} == {f"start {x!r} rank {r}" for r in (0, 1)}
        else:
            assert result.status == "failed"
            assert trials[number].state == TrialState.FAIL
            expected = "ZeroDivisionError: a bug in the trial" if luck == "bug" else "rank 1"
            assert expected in (result.error or "")
        assert traced(store).count(f"killed {x!r}") == (2 if luck == "killed" else 0)
    finished = Counter(
        call[1] for call in notes.calls if call[0] == "finished" and call[2].validation_bpb is None
    )
    assert finished == dict.fromkeys(by_luck, 1)
    assert live_groups(pretended_gpus) == []
    assert outcome.unscored == {}
    top = outcome.ranked[: round_.finalists]
    assert all(outcome.results[number].validation_bpb is not None for number in top)
    asked = sum(line.startswith("validate") for line in traced(store))
    assert asked == round_.rules.gang.ranks * len(top), "all ranks of a gang score a finalist"


@pytest.mark.heavy
@pytest.mark.xdist_group("ray")
def test_gates_kill_budgets_stop_and_a_second_driver_adds_to_the_first(tmp_path, pretended_gpus):
    store = Store(tmp_path)
    round_ = replace(fake_round(startup_trials=99), warm_starts={"good": {"x": 0.66}})
    first, notes = run(round_, store, trials=6, max_concurrent=1)
    killed = [n for n, r in first.results.items() if [b.reason for b in r.infeasible] == ["gate"]]
    assert killed, "random points well below the warm start"
    states = study_of(store).trials
    assert all(states[n].state == TrialState.PRUNED and states[n].constraints["gate"] > 0 for n in killed)
    assert first.stopped_by == "trials"
    assert notes.calls[0][1]["round_name"] == "fake"
    assert notes.calls[-1] == ("finish",)
    before = traced(store)
    with pytest.raises(UserError, match="add --resume"):
        run(round_, store)
    second, _ = run(round_, store, trials=8, resume=True)
    assert sorted(second.results) == list(range(8))
    assert {n: second.results[n].bpb for n in first.results} == {n: r.bpb for n, r in first.results.items()}
    again = [line for line in traced(store)[len(before) :] if line.startswith("start")]
    assert len(again) == 2
    hours = (second.gang_seconds + 21) / 3600  # one trial at a time, as estimated from above
    third, _ = run(replace(round_, finalists=0), store, trials=40, resume=True, gpu_hours=hours)
    assert third.stopped_by == "budget"
    assert len(third.results) > 8
    assert third.gang_seconds <= second.gang_seconds + 21


@pytest.mark.heavy
@pytest.mark.xdist_group("ray")
def test_a_driver_killed_at_two_random_moments_loses_nothing_and_repeats_nothing(tmp_path):
    """What was finished at a kill is never executed again; what was running keeps its number."""
    store, luck = Store(tmp_path), random.Random()
    command = [sys.executable, "-m", "tests.cluster.drive", str(tmp_path)]
    for kill, wanted in enumerate(sorted(luck.sample(range(1, 10), 2))):
        driver = subprocess.Popen([*command, *(["--resume"] if kill else [])], start_new_session=True,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
        while len(results(store)) < wanted:
            assert driver.poll() is None, driver.stderr.read()
            time.sleep(0.02)
        time.sleep(luck.random() / 2)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        time.sleep(3)  # ranks end with their driver, but not at once
        finished = results(store)
        executed = Counter(starts(store))
        states = {t.number: t for t in study_of(store).trials}
        frozen = {states[n].params["x"]: executed[states[n].params["x"]] for n in finished}
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stopped by trials after 14 and then finish" in done.stdout
    trials = study_of(store).trials
    assert [t.number for t in trials] == list(range(14))
    assert all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials)
    final = results(store)
    assert sorted(final) == list(range(14))
    assert {n: final[n].bpb for n in finished} == {n: r.bpb for n, r in finished.items()}
    assert {x: Counter(starts(store))[x] for x in frozen} == frozen
    assert all(final[t.number].config["x"] == t.params["x"] for t in trials)
    assert len({t.params["x"] for t in trials}) == 14, "no proposal was repeated"


@pytest.mark.heavy
@pytest.mark.xdist_group("ray")
def test_a_search_that_is_interrupted_says_so_finishes_its_record_and_scores_nobody(tmp_path):
    store = Store(tmp_path)
    driver = subprocess.Popen([sys.executable, "-m", "tests.cluster.drive", str(tmp_path)], text=True,
                              start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    while len(results(store)) < 2:
        assert driver.poll() is None, driver.stderr.read()
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
    said, errors = driver.communicate(timeout=180)
    assert driver.returncode == 0, errors
    assert re.search(r"stopped by interrupt after \d+ and then finish", said)
    assert not any(line.startswith("validate") for line in traced(store))
    states = [trial.state for trial in study_of(store).trials]
    assert TrialState.RUNNING in states  # for the next driver to hand out again


def results(store) -> dict[int, Result]:
    return {int(f.stem): Result.read(f) for f in (store.directory / "trials" / "fake").glob("*.json")}


def starts(store) -> list[float]:
    return [float(found[1]) for line in traced(store) if (found := re.match(r"start (\S+) rank 0", line))]
