"""The record of a search in MLflow: its names, its order, and what an outage or a kill does to it."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import OperationalError

from pgolf.errors import Infeasible, StoreError, UserError
from pgolf.formats.result import METRICS, Result
from services import tracking
from services.leaderboard import read_board, trial_runs
from services.mlflow_client import client_for
from services.mlflow_writer import MlflowWriter, flat, text
from services.tracking import Recorder, amend, is_outage
from tests.services.samples import SMALL, FakeConfig, killed, make_result, over_bytes


def opened(store_dir: Path, **more) -> Recorder:
    return Recorder.open("laptop", store_dir, None, SMALL, **more)


def children(store_dir: Path, round_name: str = "laptop"):
    client = client_for(store_dir, None)
    experiment = client.get_experiment_by_name(round_name)
    return {
        int(r.data.tags["pgolf.trial"].split("/")[1]): r for r in trial_runs(client, experiment.experiment_id)
    }


def parents(store_dir: Path):
    client = client_for(store_dir, None)
    experiment = client.get_experiment_by_name("laptop")
    runs = client.search_runs([experiment.experiment_id])
    return [run for run in runs if "pgolf.search" in run.data.tags]


def artifact(store_dir: Path, run_id: str, name: str) -> Path:
    return Path(client_for(store_dir, None).download_artifacts(run_id, name))


def small_search(recorder: Recorder) -> None:
    outcomes = [{}, {"bpb": 2.0}, {"infeasible": over_bytes()}, {"infeasible": killed(), "bpb": None}]
    for number, outcome in enumerate(outcomes):
        config = FakeConfig(model={"layers": number})
        recorder.trial_started(number, config, {"model/layers": number})
        recorder.trial_finished(number, make_result(config, **outcome))


@pytest.fixture(scope="module")
def recorded(empty_mlflow, tmp_path_factory) -> Path:
    """A store with one finished search in it: a feasible trial with everything, and its likes."""
    store = tmp_path_factory.mktemp("recorded")
    (store / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    certificate = store / "certify" / "key" / "report.json"
    certificate.parent.mkdir(parents=True)
    certificate.write_text('{"lossless": true}')
    recorder = opened(store)
    small_search(recorder)
    config = FakeConfig(seed=7, model={"layers": 9, "dims": [1, 2], "note": "x" * 900})
    recorder.trial_started(4, config, {"optim/lr": 0.02, "model/kind": "gqa"})
    for step in (10, 20):
        metrics = {"train_loss": 3.0 - step / 100, "train_seconds": step / 4, "progress": step / 100}
        recorder.trial_progress(4, step, {**metrics, **({"val_bpb": 2.5} if step == 20 else {})})
    recorder.trial_progress(4, -1, {"stage_done/train": 31.5})
    recorder.trial_finished(4, make_result(config, bpb=1.9), {"certificate.json": certificate})
    time.sleep(0.005)  # the later record wins, by its time in milliseconds
    again = make_result(config, bpb=1.9, validation_bpb=1.95, eval_seconds=12.0)
    recorder.trial_finished(4, again, {"certificate.json": certificate})
    recorder.finish()
    return store


def test_a_trial_is_one_child_run_with_the_contracts_metrics_and_tags(recorded):
    run = children(recorded)[4]
    expected = make_result(bpb=1.9, validation_bpb=1.95, eval_seconds=12.0).metrics()
    assert {name: run.data.metrics[name] for name in METRICS if name in run.data.metrics} == expected
    assert (run.data.metrics["rank"], run.data.metrics["feasible"], run.data.metrics["pareto"]) == (1, 1, 1)
    tags = run.data.tags
    assert tags["mlflow.parentRunId"] == parents(recorded)[0].info.run_id
    wanted = {"pgolf.trial": "laptop/4", "status": "ok", "feasible": "true", "pareto": "true", "rank": "1"}
    wanted |= {"round": "laptop", "seed": "7", "recipe": "laptop_baseline", "train_key": "a1b2c3d4"}
    assert {name: tags[name] for name in wanted} == wanted
    assert len(tags["config_digest"]) == 64
    assert run.info.run_name.startswith("laptop_baseline-")
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert params["model.layers"] == "9"
    assert params["model.dims"] == "[1, 2]"
    assert len(params["model.note"]) == 500
    assert params["search/optim/lr"] == "0.02"
    assert params["search/model/kind"] == "gqa"


def test_curves_are_there_by_step_and_by_second(recorded):
    client, run_id = client_for(recorded, None), children(recorded)[4].info.run_id
    points = {name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)]
              for name in ("train_loss", "train_loss_by_second", "val_bpb", "val_bpb_by_second")}  # fmt: skip
    assert points == {"train_loss": [(10, 2.9), (20, 2.8)], "train_loss_by_second": [(2, 2.9), (5, 2.8)],
                      "val_bpb": [(20, 2.5)], "val_bpb_by_second": [(5, 2.5)]}  # fmt: skip


def test_config_result_and_attachments_are_artifacts(recorded):
    run_id = children(recorded)[4].info.run_id
    config = json.loads(artifact(recorded, run_id, "config.json").read_text())
    assert config["model"]["layers"] == 9
    result = Result.read(artifact(recorded, run_id, "result.json"))
    assert result.validation_bpb == 1.95
    assert json.loads(artifact(recorded, run_id, "certificate.json").read_text()) == {"lossless": True}


def test_the_parent_holds_the_table_and_the_plots(recorded):
    (parent,) = parents(recorded)
    table = json.loads(artifact(recorded, parent.info.run_id, "leaderboard.json").read_text())
    board = read_board(recorded, None, "laptop")
    at = table["columns"].index
    assert [(r[at("rank")], r[at("run_id")]) for r in table["data"]] == [(r.rank, r.run_id) for r in board]
    assert "412,300 > 400,000" in json.dumps(table)
    for name in ("progress.png", "pareto.png"):
        assert artifact(recorded, parent.info.run_id, name).read_bytes().startswith(b"\x89PNG")
    assert parent.info.status == "FINISHED"
    assert parent.data.params["rules.artifact_bytes"] == "400000"
    assert json.loads(parent.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "leaderboard.json", "type": "table"}
    ]


def test_sorting_mlflows_runs_by_rank_is_the_leaderboard(recorded):
    client = client_for(recorded, None)
    experiment = client.get_experiment_by_name("laptop")
    runs = client.search_runs([experiment.experiment_id], order_by=["metrics.rank ASC"])
    by_rank = [run.info.run_id for run in runs if "rank" in run.data.metrics]
    assert by_rank == [row.run_id for row in read_board(recorded, None, "laptop")]
    assert len(by_rank) == 5
    assert [client.get_run(i).data.metrics["rank"] for i in by_rank] == [1, 2, 3, 4, 5]


def test_run_statuses_tell_fault_from_outcome(store_dir):
    recorder = opened(store_dir)
    for number in range(4):
        recorder.trial_started(number, FakeConfig(model={"layers": number}), {})
    recorder.trial_finished(0, make_result(FakeConfig(model={"layers": 0}), infeasible=killed()))
    recorder.trial_finished(
        1, make_result(FakeConfig(model={"layers": 1}), status="failed", bpb=None, error="ValueError: x")
    )
    recorder.trial_lost(2, "the driver died")
    recorder.finish()
    runs = children(store_dir)
    assert [runs[n].info.status for n in range(4)] == ["FINISHED", "FAILED", "KILLED", "RUNNING"]
    assert [runs[n].data.tags["status"] for n in range(4)] == ["infeasible", "failed", "lost", "running"]
    assert runs[2].data.tags["reason"] == "the driver died"
    assert runs[1].data.tags["error"] == "ValueError: x"
    assert [runs[n].data.metrics.get("rank") for n in range(4)] == [1, 2, None, None]


def test_delivering_every_event_again_changes_nothing(store_dir):
    recorder = opened(store_dir)
    small_search(recorder)
    recorder.trial_progress(1, 10, {"train_loss": 2.0, "train_seconds": 3.0, "progress": 0.1})
    recorder.finish()
    before = {
        n: (r.info.run_id, r.info.status, r.data.to_dictionary()) for n, r in children(store_dir).items()
    }
    (store_dir / "outbox" / "laptop.delivered").unlink()
    again = opened(store_dir, resume=True)
    again.finish()
    after = {
        n: (r.info.run_id, r.info.status, r.data.to_dictionary()) for n, r in children(store_dir).items()
    }
    assert before == after
    assert len(parents(store_dir)) == 1
    client = client_for(store_dir, None)
    assert len(client.get_metric_history(after[1][0], "train_loss")) == 1
    table = json.loads(artifact(store_dir, parents(store_dir)[0].info.run_id, "leaderboard.json").read_text())
    assert len(table["data"]) == 4


def test_a_certificate_that_comes_later_goes_to_its_run_and_moves_the_ranks(store_dir, tmp_path):
    recorder = opened(store_dir)
    for number, bpb in enumerate((2.0, 2.1)):
        config = FakeConfig(model={"layers": number})
        recorder.trial_started(number, config, {})
        recorder.trial_finished(number, make_result(config, bpb=bpb))
    recorder.finish()
    first = children(store_dir)[0]
    (tmp_path / "certificate.txt").write_text("certificate fails")
    failed = [Infeasible(reason="certificate", measured=1, limit=0)]
    result = make_result(FakeConfig(model={"layers": 0}), bpb=2.0, validation_bpb=2.2, infeasible=failed)
    kept = {"certificate.txt": tmp_path / "certificate.txt"}
    amend(first.info.run_id, result, kept, SMALL, store_dir, None)
    after = children(store_dir)
    assert after[0].info.run_id == first.info.run_id
    assert [(after[n].data.metrics["rank"], after[n].data.metrics["feasible"]) for n in (0, 1)] == [
        (2, 0),
        (1, 1),
    ]
    assert after[0].data.metrics["validation_bpb"] == 2.2
    assert after[0].info.end_time == first.info.end_time
    table = json.loads(artifact(store_dir, parents(store_dir)[0].info.run_id, "leaderboard.json").read_text())
    assert [row[table["columns"].index("number")] for row in table["data"]] == [1, 0]
    assert artifact(store_dir, first.info.run_id, "certificate.txt").read_text() == "certificate fails"
    assert len(parents(store_dir)) == 1
    assert parents(store_dir)[0].data.metrics["best_bpb"] == 2.1


def test_an_outage_neither_blocks_nor_kills_is_said_once_and_is_made_good(store_dir, caplog, monkeypatch):
    monkeypatch.setattr(tracking, "FIRST_PAUSE_SECONDS", 0.05)
    up = MlflowWriter.opened
    calls = []

    def down(self, event):
        calls.append(event)
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(MlflowWriter, "opened", down)
    recorder = opened(store_dir)
    began = time.monotonic()
    small_search(recorder)
    assert time.monotonic() - began < 0.5
    deadline = time.monotonic() + 20
    while len(calls) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(calls) >= 3, "delivery is tried again"
    said = [r for r in caplog.records if "does not take the record" in r.message]
    assert len(said) == 1
    assert "nobody answers" in said[0].message
    monkeypatch.setattr(MlflowWriter, "opened", up)
    assert recorder.flush()
    assert [row.rank for row in read_board(store_dir, None, "laptop")] == [1, 2, 3, 4]
    recorder.finish()


def test_what_an_outage_kept_back_is_written_at_the_next_open(store_dir, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    recorder = Recorder.open("laptop", store_dir, "http://127.0.0.1:9", SMALL)
    small_search(recorder)
    began = time.monotonic()
    recorder.finish()
    assert time.monotonic() - began < 30
    assert "is written the next time" in caplog.text
    opened(store_dir, resume=True).finish()
    assert len(children(store_dir)) == 4
    assert len(parents(store_dir)) == 1


def test_what_mlflow_refuses_is_said_and_does_not_keep_back_the_rest(store_dir, caplog):
    recorder = opened(store_dir)
    recorder.trial_started(0, FakeConfig(), {"a=b?": 1})  # MLflow has no parameter of that name
    recorder.trial_finished(1, make_result())
    recorder.finish()
    assert "MLflow refused trial_started of trial 0" in caplog.text
    assert children(store_dir)[1].data.tags["status"] == "ok"


def test_an_event_that_cannot_be_written_is_said_once_and_does_not_keep_back_the_rest(
    store_dir, caplog, monkeypatch
):
    monkeypatch.setattr(tracking, "FIRST_PAUSE_SECONDS", 0.01)
    recorder = opened(store_dir)
    box, old = recorder._boxes[0], {"time_ms": 1, "search": recorder._search, "number": 0}
    box.append({**old, "event": "trial_finished", "result": {"no": "result"}, "attachments": {}})
    box.append({**old, "event": "renamed_since"})
    box.append({"event": "trial_progress"})
    box.append({"of": "no kind"})
    recorder.trial_finished(1, make_result())
    assert recorder.flush()
    recorder.finish()
    assert not [r for r in caplog.records if "does not take the record" in r.message]
    said = [r.message for r in caplog.records if "passed over" in r.message]
    assert len(said) == 4
    assert said[0].startswith("ValidationError in trial_finished of trial 0")
    assert [row.number for row in read_board(store_dir, None, "laptop")] == [1]


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (ConnectionError("refused"), True),
        (requests.exceptions.ReadTimeout("slow"), True),
        (OperationalError("select 1", {}, Exception("database is locked")), True),
        (MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("500", error_code=INTERNAL_ERROR), True),
        (RestException({"error_code": "503"}), True),
        (MlflowException("bad name", error_code=INVALID_PARAMETER_VALUE), False),
        (TypeError("ours"), False),
        (KeyError("search"), False),
    ],
)
def test_only_what_may_succeed_later_is_an_outage(error, outage):
    assert is_outage(error) is outage


def test_single_trials_with_other_rules_share_one_parent_and_are_refused_nothing(store_dir, caplog):
    for number, cap in enumerate((400_000, 500_000)):
        rules = SMALL.but(artifact_bytes=cap)
        recorder = Recorder.open(tracking.SINGLE, store_dir, None, rules)
        recorder.trial_finished(number, make_result())
        assert recorder.flush()
        client = client_for(store_dir, None)
        experiment = client.get_experiment_by_name(tracking.SINGLE).experiment_id
        (parent,) = [r for r in client.search_runs([experiment]) if "pgolf.search" in r.data.tags]
        assert parent.info.status == "RUNNING", "the parent is reopened"
        assert not parent.data.params
        recorder.finish()
    assert "refused" not in caplog.text
    assert len(read_board(store_dir, None, tracking.SINGLE)) == 2


def test_a_tracking_uri_that_can_never_work_is_refused_before_anything_is_recorded(store_dir):
    with pytest.raises(UserError, match="foo://x"):
        Recorder.open("laptop", store_dir, "foo://x", SMALL)
    assert not (store_dir / "outbox").exists()


def test_a_killed_process_loses_no_event(store_dir):
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom tests.services.samples import SMALL\n"
        "from services.tracking import Recorder\nfrom tests.services.test_tracking import small_search\n"
        f"small_search(Recorder.open('laptop', Path({str(store_dir)!r}), None, SMALL))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    recorder = opened(store_dir, resume=True)
    recorder.finish()
    board = read_board(store_dir, None, "laptop")
    assert [row.status for row in board] == ["ok", "ok", "infeasible", "infeasible"]
    assert len(children(store_dir)) == 4
    assert len(parents(store_dir)) == 1


def test_resuming_goes_on_with_the_parent_and_not_resuming_begins_another(store_dir):
    for resume in (False, True, False):
        recorder = opened(store_dir, resume=resume)
        recorder.trial_finished(0, make_result())
        recorder.finish()
    assert len(parents(store_dir)) == 2
    assert len(read_board(store_dir, None, "laptop")) == 2  # number 0 of either search


def test_a_number_that_comes_back_with_another_config_is_another_trial(store_dir):
    recorder = opened(store_dir)
    recorder.trial_started(0, FakeConfig(model={"layers": 1}), {})
    recorder.trial_lost(0, "killed")
    recorder.trial_started(0, FakeConfig(model={"layers": 2}), {})
    recorder.trial_finished(0, make_result(FakeConfig(model={"layers": 2})))
    recorder.finish()
    run = children(store_dir)[0]
    assert run.data.params["model.layers"] == "2"
    assert run.data.tags["status"] == "ok"
    assert len(read_board(store_dir, None, "laptop")) == 1


def test_ranks_are_rewritten_only_where_they_changed(store_dir, monkeypatch):
    recorder = opened(store_dir)
    small_search(recorder)
    assert recorder.flush()
    written = []
    keep = MlflowWriter._write_standing
    monkeypatch.setattr(
        MlflowWriter, "_write_standing", lambda self, row, *a: (written.append(row.rank), keep(self, row, *a))
    )
    recorder.trial_finished(9, make_result(FakeConfig(model={"layers": 9}), bpb=2.05, artifact_bytes=390_000))
    recorder.finish()
    assert written == [2, 3, 4, 5]


def test_two_searches_of_one_round_in_one_store_are_refused_but_single_trials_run_side_by_side(store_dir):
    first = opened(store_dir)
    with pytest.raises(StoreError, match="one process per store"):
        opened(store_dir)
    first.close()
    one = Recorder.open(tracking.SINGLE, store_dir, None, SMALL)
    two = Recorder.open(tracking.SINGLE, store_dir, None, SMALL)
    one.trial_finished(one.next_number, make_result())
    two.trial_finished(two.next_number, make_result(bpb=2.2))
    one.finish()
    two.finish()
    third = Recorder.open(tracking.SINGLE, store_dir, None, SMALL)
    assert third.next_number == 1
    assert third._search == one._search
    third.finish()
    assert [row.bpb for row in read_board(store_dir, None, tracking.SINGLE)] == [2.1, 2.2]


def test_nothing_is_recorded_as_zero_that_was_not_measured(store_dir):
    recorder = opened(store_dir)
    recorder.trial_finished(
        0, make_result(infeasible=killed(), bpb=None, artifact_bytes=None, eval_seconds=None)
    )
    recorder.finish()
    assert (
        not {"bpb", "artifact_bytes", "eval_seconds", "validation_bpb"}
        & children(store_dir)[0].data.metrics.keys()
    )


def test_a_missing_attachment_is_said_and_the_result_is_recorded(store_dir, caplog):
    recorder = opened(store_dir)
    recorder.trial_finished(0, make_result(), {"ledger.json": store_dir / "gone.json"})
    recorder.finish()
    assert "ledger.json" in caplog.text
    assert read_board(store_dir, None, "laptop")[0].rank == 1


def test_long_values_are_cut_and_short_ones_kept():
    assert text("é" * 501) == "é" * 497 + "..."
    assert text("x" * 500) == "x" * 500
    assert text(1.5) == "1.5"
    assert flat({"a": {"b": {"c": None}}, "d": []}) == {"a.b.c": None, "d": []}


def test_mlflow_is_quiet():
    assert not logging.getLogger("alembic").isEnabledFor(logging.INFO)
    assert issubclass(MlflowException, Exception)
