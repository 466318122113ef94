"""The main job as a user runs it: a real search by the real command, its record, its winner, its death.

One search is shared by the tests that only look at it. The round is `smoke`: real trials of seconds.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest

pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("ray")]
TRIALS = 5


def pgolf(*arguments: object, timeout: float = 400) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pgolf", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def board(store: Path) -> list[dict]:
    return json.loads(pgolf("board", "smoke", "--store", store, "--json").stdout)


@dataclass(frozen=True)
class Searched:
    store: Path
    output: str
    rows: list[dict]  # of the board


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Searched:
    store = tmp_path_factory.mktemp("search") / "store"
    done = pgolf("search", "smoke", "--trials", TRIALS, "--store", store)
    assert done.returncode == 0, done.stdout + done.stderr
    return Searched(store, done.stdout, board(store))


def test_every_trial_is_on_the_board_and_the_closing_screen_says_what_to_type_next(searched):
    rows = searched.rows
    assert sorted(row["number"] for row in rows) == list(range(TRIALS))
    assert sorted(row["rank"] for row in rows) == list(range(1, TRIALS + 1))
    for words in (
        "where everything is",
        "what to type next",
        "pgolf ui",
        "show 'smoke#1'",
        "reproduce 'smoke#1'",
    ):
        assert words in searched.output
    feasible = [row for row in rows if row["status"] == "ok"]
    assert feasible
    assert feasible == sorted(feasible, key=lambda row: row["bpb"])
    for row in rows:
        if row["status"] == "infeasible":
            assert row["infeasible"][0]["reason"] in ("artifact_bytes", "gate", "train_seconds", "diverged")


def test_finalists_show_the_validation_score_beside_the_one_that_ranked_them(searched):
    feasible = [row for row in searched.rows if row["status"] == "ok"]
    assert [row["validation_bpb"] is not None for row in feasible] == [i < 2 for i in range(len(feasible))]
    assert feasible[0]["validation_bpb"] != feasible[0]["bpb"]


def test_mlflow_runs_sorted_by_the_rank_metric_are_the_board(searched):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{searched.store}/mlflow.db")
    experiment = client.get_experiment_by_name("smoke")
    runs = client.search_runs(
        [experiment.experiment_id], "metrics.rank > 0", order_by=["metrics.rank ASC"], max_results=100
    )
    rows = searched.rows
    assert [run.info.run_id for run in runs] == [row["run_id"] for row in rows]
    assert [run.data.metrics["rank"] for run in runs] == [row["rank"] for row in rows]
    for run, row in zip(runs, rows, strict=True):
        assert run.data.metrics.get("bpb") == row["bpb"]
        assert run.data.metrics.get("artifact_bytes") == row["artifact_bytes"]
        assert run.data.tags["status"] == row["status"]
    parents = client.search_runs([experiment.experiment_id], "tags.pgolf.trial IS NULL")
    children = [run.data.tags["mlflow.parentRunId"] for run in runs]
    assert {parents[0].info.run_id} == set(children)


def test_the_winner_is_reproduced_to_the_byte_and_to_the_bit(searched):
    done = pgolf("reproduce", "#1", "--store", searched.store, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["agree"]
    assert answer["again"]["artifact_sha256"] == answer["original"]["artifact_sha256"]
    assert answer["again"]["bpb"] == answer["original"]["bpb"]
    assert not any(stage["cached"] for stage in answer["again"]["stages"].values())


def test_the_winner_has_a_certificate_that_holds(searched):
    done = pgolf("certify", "#1", "--store", searched.store, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert {said["holds"] for said in report["rules"].values()} == {True, None}
    assert report["round_trip"]["coded_bytes"] < report["round_trip"]["text_bytes"]


def test_a_second_search_in_the_same_store_is_refused_and_nothing_changes(searched):
    before = states(searched.store)
    done = pgolf("search", "smoke", "--store", searched.store)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    assert states(searched.store) == before


def test_a_finished_search_resumed_runs_nothing_again(searched):
    before = made(searched.store)
    done = pgolf("search", "smoke", "--trials", TRIALS, "--store", searched.store, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert made(searched.store) == before
    assert len(board(searched.store)) == TRIALS


def test_a_driver_killed_at_two_random_moments_loses_nothing_and_repeats_nothing(tiny_trial, tmp_path):
    """SIGKILL to the driver alone: what it started has to end by itself, and what it did must stay."""
    store = tmp_path / "store"
    for stage in ("corpus", "tokenize"):  # so that it is killed over its trials
        shutil.copytree(tiny_trial.stage(stage).parent, store / stage)
    moments = random.Random(int.from_bytes(os.urandom(4), "big"))
    finished: dict[int, str] = {}
    stages: dict[str, int] = {}
    for attempt in range(2):
        more = ["--resume"] if states(store) else []  # a kill may come before the study is made
        command = [
            sys.executable,
            "-m",
            "pgolf",
            "search",
            "smoke",
            "--trials",
            str(TRIALS),
            "--store",
            str(store),
        ]
        driver = subprocess.Popen(
            [*command, *more], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        seconds = moments.uniform(6, 25)
        print(f"attempt {attempt}: SIGKILL after {seconds:.1f} s")
        try:
            driver.wait(seconds)
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
        now = states(store)
        assert {n: s for n, s in now.items() if n in finished} == finished, "a finished trial changed"
        finished = {n: s for n, s in now.items() if s in ("COMPLETE", "PRUNED")}
        stages |= made(store)
    time.sleep(3)  # workers of the dead driver notice
    more = ["--resume"] if states(store) else []
    done = pgolf("search", "smoke", "--trials", TRIALS, "--store", store, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    after = states(store)
    assert sorted(after) == list(range(TRIALS))
    assert set(after.values()) <= {"COMPLETE", "PRUNED"}
    assert {n: s for n, s in after.items() if n in finished} == finished
    again = {key: time_ for key, time_ in made(store).items() if key in stages and stages[key] != time_}
    assert not again, f"stages made twice: {again}"
    rows = board(store)
    assert sorted(row["number"] for row in rows) == list(range(TRIALS))
    assert sorted(row["rank"] for row in rows) == list(range(1, TRIALS + 1))


def states(store: Path) -> dict[int, str]:
    """Trial number -> state, from the study alone."""
    if not (store / "study.db").exists():
        return {}
    storage = f"sqlite:///{store}/study.db"
    if "smoke" not in optuna.get_all_study_names(storage):
        return {}
    study = optuna.load_study(study_name="smoke", storage=storage)
    return {trial.number: trial.state.name for trial in study.get_trials(deepcopy=False)}


def made(store: Path) -> dict[str, int]:
    """Published stage -> when its record was written."""
    return {
        f"{record.parent.parent.name}/{record.parent.name}": record.stat().st_mtime_ns
        for record in store.glob("*/*/record.json")
    }
