"""The UI is refused in words where it cannot serve, and serves the leaderboard where it can."""

import json
import socket
import urllib.request

import pytest

from pgolf.errors import StoreError, UserError
from services.tracking import Recorder
from services.ui import serve
from tests.services.samples import SMALL, make_result


@pytest.fixture
def with_a_trial(store_dir):
    recorder = Recorder.open("laptop", store_dir, None, SMALL)
    recorder.trial_finished(0, make_result())
    recorder.finish()
    return store_dir


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_taken_port_is_said_with_another_to_try(with_a_trial):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port + 1}"):
            serve(with_a_trial, port=port)


def test_without_a_store_or_without_trials_there_is_nothing_to_serve(tmp_path, store_dir):
    with pytest.raises(StoreError, match="none yet"):
        serve(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="store that has trials"):
        serve(store_dir)


@pytest.mark.heavy
def test_the_served_page_answers_at_the_address_that_was_said(with_a_trial):
    said, answers = [], []

    def look(process):
        base = said[0].split(": ", 1)[1].split("/#/")[0]
        with urllib.request.urlopen(base, timeout=20) as page:
            answers.append(page.read().decode())
        query = urllib.request.Request(
            f"{base}/api/2.0/mlflow/experiments/search", json.dumps({"max_results": 10}).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(query, timeout=20) as found:
            answers.append([e["name"] for e in json.load(found)["experiments"]])
        process.terminate()

    assert serve(with_a_trial, port=free_port(), say=said.append, started=look) == 0
    assert said[0].startswith("laptop: http://127.0.0.1:")
    assert "leaderboard" in said[0]
    assert "<html" in answers[0]
    assert "laptop" in answers[1]


def test_the_printed_address_opens_a_view_that_the_record_keeps(with_a_trial):
    """The UI reads a shared view from an experiment tag; columns or a sort key it cannot find are dropped."""
    from services.leaderboard import rounds, trial_runs
    from services.mlflow_client import client_for
    from services.ui import table_path

    client = client_for(with_a_trial, None)
    experiment = rounds(client)[0]
    name = table_path(experiment.experiment_id).partition("viewStateShareKey=")[2]
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{name}"])
    assert view["orderByKey"] == "metrics.`rank`"
    assert view["orderByAsc"]
    measured = trial_runs(client, experiment.experiment_id)[0].data.metrics
    shown = {column.removeprefix("metrics.`").removesuffix("`") for column in view["selectedColumns"]}
    assert {"rank", "bpb", "artifact_bytes", "eval_seconds"} <= shown
    assert shown - {"validation_bpb"} <= set(measured)
