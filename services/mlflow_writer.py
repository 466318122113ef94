"""Every name pgolf writes into MLflow, and nothing else. Doing a call twice is doing it once.

    experiment  one per round, named by it
    parent run  one per search, tagged `pgolf.search`; leaderboard.json (a table), progress.png, pareto.png
    child run   one per trial, tagged `pgolf.trial` = "<round>/<number>", named by recipe and short digest

Twice is once because of three things. A run is created together with the tag it is found by. Every point
of a metric carries the time of its event, and MLflow keeps one point per (name, time, step, value). The
table and the plots are written whole (MLflow's own `log_table` appends).

Live curves come in two forms: `train_loss` and `val_bpb` over optimizer steps, and the same with the
suffix `_by_second` over whole seconds of training, because a UI axis of wall time would show the queue,
the tokenizer and the cache instead of the clock that the rules count.

MLflow can sort by one metric and has no notion of a front, so `rank`, `feasible` and `pareto` are written
as metrics (and as tags, which the table shows as text), recomputed after trials finish and only where
they changed. Their step is the number of finished trials: the chart of `rank` is its history.
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag

from pgolf.formats.result import Result
from pgolf.rules import Rules
from pgolf.section import digest_of
from services import plots
from services.leaderboard import (
    BOARD_VIEW,
    SINGLE,
    Row,
    rank_rows,
    row_of_run,
    trial_runs,
    with_significance,
)
from services.mlflow_client import MlflowClient

log = logging.getLogger(__name__)

Event = Mapping[str, Any]

PARAMS_PER_BATCH = 100  # MLflow's own limit
METRICS_PER_BATCH = 1000  # MLflow's own limit
VALUE_CHARS = 500
BOARD_EVERY = 5  # finished trials between two drawings of the parent's table and plots
CURVES = ("train_loss", "val_bpb")
RUN_STATUS = {"ok": "FINISHED", "infeasible": "FINISHED", "failed": "FAILED"}
SOURCE = {"mlflow.source.name": "pgolf", "mlflow.source.type": "LOCAL"}
BOARD_COLUMNS = ("rank", "bpb", "validation_bpb", "artifact_bytes", "eval_seconds", "feasible", "pareto")
BOARD = {  # what the UI keeps of a view somebody shared: the leaderboard, shared from the start
    "searchFilter": "metrics.rank > 0",  # trials, not searches
    "orderByKey": "metrics.`rank`",
    "orderByAsc": True,
    "lifecycleFilter": "Active",
    "startTime": "ALL",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": [f"metrics.`{name}`" for name in BOARD_COLUMNS],
}
NOTE = (
    "One run per trial. **Sort by the metric `rank`: that is the leaderboard.** Ranks are on the select "
    "split; quote `validation_bpb`. `feasible = 0` says that a budget or a gate was broken, and the tag "
    "`infeasible` says which and by how much."
)


class MlflowWriter:
    """Writes one round's events. Not shared between threads."""

    def __init__(
        self, client: MlflowClient, round_name: str, rules: Rules, artifact_root: str | None
    ) -> None:
        self.client, self.round_name, self.rules = client, round_name, rules
        self._artifact_root = artifact_root
        self._experiment: str | None = None
        self._parents: dict[str, str] = {}  # search -> run id
        self._children: dict[tuple[str, int], str] = {}  # (search, number) -> run id
        self._rows: dict[str, Row] | None = None  # run id -> unranked row; None: ask MLflow
        self._written: dict[str, tuple[int, bool, bool]] = {}  # run id -> rank, feasible, pareto
        self._drawn_at = 0  # finished trials when the board was drawn last

    # ------------------------------------------------------------------------------------ events

    def opened(self, event: Event) -> None:
        """A search begins, or goes on: its parent run is there and running, with the search's rules.

        Single trials share one parent and no rules: each has its own in its config, and MLflow lets no
        parameter be written twice with two values.
        """
        parent = self._parent(event)
        self._rows = None
        self.client.update_run(parent, status="RUNNING")
        if self.round_name != SINGLE:
            self._log_params(parent, flat({"rules": event["rules"]}))

    def trial_started(self, event: Event) -> None:
        """A trial's run is there and running, with its config and its searched parameters."""
        run_id = self._child(event)
        self.client.update_run(run_id, status="RUNNING")
        self.client.set_tag(run_id, "status", "running")
        searched = {f"search/{name}": value for name, value in event["params"].items()}
        self._log_params(run_id, {**flat(event["config"]), **searched})
        self.client.log_dict(run_id, dict(event["config"]), "config.json")
        self._refresh(run_id)

    def trial_progress(self, events: Sequence[Event]) -> None:
        """Points of one trial's live curves."""
        run_id = self._started(events[0])
        if run_id is None:
            return
        points = [point for event in events for point in live_points(event)]
        for at in range(0, len(points), METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=points[at : at + METRICS_PER_BATCH])

    def trial_finished(self, event: Event) -> None:
        """A trial's measurements, outcome and documents."""
        result = Result.model_validate(event["result"])
        run_id = self._child({**event, "name": result.name, "config": result.config, "seed": result.seed,
                              "config_digest": result.config_digest})  # fmt: skip
        metrics = [Metric(name, value, event["time_ms"], 0) for name, value in result.metrics().items()]
        metrics += [
            Metric(f"stage_seconds/{name}", stage.seconds, event["time_ms"], 0)
            for name, stage in result.stages.items()
        ]
        tags = [RunTag(name, value) for name, value in outcome_tags(result).items()]
        self.client.log_batch(run_id, metrics=metrics, tags=tags)
        self.client.log_dict(run_id, result.config, "config.json")
        self.client.log_text(run_id, json.dumps(result.plain(), indent=1, sort_keys=True), "result.json")
        for name, path in event["attachments"].items():
            self._attach(run_id, name, Path(path))
        ended_ms = event.get("ended_ms", event["time_ms"])
        self.client.set_terminated(run_id, RUN_STATUS[result.status], ended_ms)
        self._refresh(run_id)

    def trial_lost(self, event: Event) -> None:
        """A trial that ended without a result: its driver or its gang died."""
        run_id = self._started(event)
        if run_id is None:
            return
        self.client.set_tag(run_id, "status", "lost")
        self.client.set_tag(run_id, "reason", event["reason"][:VALUE_CHARS])
        self.client.set_terminated(run_id, "KILLED", event["time_ms"])
        self._refresh(run_id)

    def finished(self, event: Event) -> None:
        """A search is over: its board is drawn and its parent run closed."""
        self._rows = None  # another writer may have added to this round
        self.rank(event, draw=True)
        self.client.set_terminated(self._parent(event), "FINISHED", event["time_ms"])

    # ----------------------------------------------------------------------------------- ranking

    def rank(self, event: Event, draw: bool = False) -> None:
        """Bring `rank`, `feasible` and `pareto` of every run up to date; draw the board now and then, or now."""
        rows = self._ranked()
        done = sum(row.rank is not None for row in rows)
        for row in rows:
            if row.rank is not None and self._written.get(row.run_id or "") != standing(row):
                self._write_standing(row, event["time_ms"], done)
        best = next((row.bpb for row in rows if row.rank == 1 and row.feasible), None)
        if best is not None:
            self.client.log_metric(self._parent(event), "best_bpb", best, event["time_ms"], done)
        if draw or done >= self._drawn_at + BOARD_EVERY:
            self._draw(event, rows)

    def _write_standing(self, row: Row, time_ms: int, step: int) -> None:
        rank, feasible, pareto = standing(row)
        values = {"rank": rank, "feasible": int(feasible), "pareto": int(pareto)}
        metrics = [Metric(name, float(value), time_ms, step) for name, value in values.items()]
        tags = [RunTag("rank", str(rank)), RunTag("feasible", said(feasible)), RunTag("pareto", said(pareto))]
        assert row.run_id is not None, "rows here come from MLflow"
        self.client.log_batch(row.run_id, metrics=metrics, tags=tags)
        self._written[row.run_id] = rank, feasible, pareto

    def _ranked(self) -> list[Row]:
        if self._rows is None:
            runs = trial_runs(self.client, self.experiment)
            self._rows = {run.info.run_id: row_of_run(run) for run in runs}
            self._written = {run.info.run_id: was for run in runs if (was := written_standing(run))}
        return rank_rows(self._rows.values())

    def _refresh(self, run_id: str) -> None:
        if self._rows is not None:
            self._rows[run_id] = row_of_run(self.client.get_run(run_id))

    def _draw(self, event: Event, rows: Sequence[Row]) -> None:
        rows, parent = with_significance(rows), self._parent(event)
        self.client.log_dict(parent, table(rows), "leaderboard.json")
        known = [{"path": "leaderboard.json", "type": "table"}]  # what makes the UI offer it as a table
        self.client.set_tag(parent, "mlflow.loggedArtifacts", json.dumps(known))
        with tempfile.TemporaryDirectory() as work:
            for name, draw in (("progress.png", plots.progress), ("pareto.png", plots.pareto)):
                file = Path(work) / name
                plots.save(draw(rows, self.rules), file)
                self.client.log_artifact(parent, str(file))
        self._drawn_at = sum(row.rank is not None for row in rows)

    # ------------------------------------------------------------------------------ finding runs

    @property
    def experiment(self) -> str:
        """The round's experiment, made at first use."""
        if self._experiment is None:
            found = self.client.get_experiment_by_name(self.round_name)
            root = self._artifact_root
            self._experiment = found.experiment_id if found else self.client.create_experiment(
                self.round_name, f"{root}/{self.round_name}" if root else None,
                {"pgolf.round": self.round_name, "mlflow.note.content": NOTE,
                 f"mlflow.sharedViewState.{BOARD_VIEW}": json.dumps(BOARD)})  # fmt: skip
        return self._experiment

    def _find(self, filter_string: str) -> Run | None:
        runs = self.client.search_runs([self.experiment], filter_string, max_results=1)
        return runs[0] if runs else None

    def _parent(self, event: Event) -> str:
        """The run of the event's search, made if it is not there."""
        search = event["search"]
        if search not in self._parents:
            run = self._find(f"tags.`pgolf.search` = '{search}'")
            if run is None:
                tags = {
                    "pgolf.search": search,
                    "round": self.round_name,
                    "mlflow.note.content": NOTE,
                    **SOURCE,
                }
                name = f"search {self.round_name}"
                run = self.client.create_run(self.experiment, event["time_ms"], tags, name)
            self._parents[search] = run.info.run_id
        return self._parents[search]

    def _trial_tag(self, number: int) -> str:
        return f"{self.round_name}/{number}"

    def _find_child(self, event: Event) -> Run | None:
        tag, parent = self._trial_tag(event["number"]), self._parent(event)
        return self._find(f"tags.`pgolf.trial` = '{tag}' and tags.`mlflow.parentRunId` = '{parent}'")

    def _started(self, event: Event) -> str | None:
        """The run of a trial that must have been started; without one there is nothing to write to."""
        key = (event["search"], event["number"])
        if key not in self._children:
            run = self._find_child(event)
            if run is None:
                log.warning("%s: trial %d was never started; not recorded", event["event"], event["number"])
                return None
            self._children[key] = run.info.run_id
        return self._children[key]

    def _child(self, event: Event) -> str:
        """The run of a trial, made if it is not there.

        A number that comes back with another config is another trial: its old run is deleted (MLflow
        keeps it in the trash), because parameters of a run cannot be changed.
        """
        key = (event["search"], event["number"])
        if key in self._children and event["event"] == "trial_finished":
            return self._children[key]
        run = self._find_child(event)
        if run is not None and run.data.tags.get("config_digest") != event["config_digest"]:
            self.client.delete_run(run.info.run_id)
            (self._rows or {}).pop(run.info.run_id, None)
            run = None
        if run is None:
            tags = {
                "pgolf.trial": self._trial_tag(event["number"]), "mlflow.parentRunId": self._parent(event),
                "round": self.round_name, "recipe": event["config"].get("name", event["name"]),
                "config_digest": event["config_digest"], "seed": str(event["seed"]),
                "status": "running", **SOURCE,
            }  # fmt: skip
            run = self.client.create_run(self.experiment, event["time_ms"], tags, event["name"])
        self._children[key] = run.info.run_id
        return self._children[key]

    # ------------------------------------------------------------------------------------ pieces

    def _log_params(self, run_id: str, values: Mapping[str, Any]) -> None:
        params = [Param(name, text(value)) for name, value in values.items()]
        for at in range(0, len(params), PARAMS_PER_BATCH):
            self.client.log_batch(run_id, params=params[at : at + PARAMS_PER_BATCH])

    def _attach(self, run_id: str, name: str, path: Path) -> None:
        if not (path.is_file() and os.access(path, os.R_OK)):
            log.warning("%s of run %s cannot be read (%s): recorded without it", name, run_id, path)
            return
        with tempfile.TemporaryDirectory() as work:
            copy = Path(work) / name
            copy.symlink_to(path.absolute())
            self.client.log_artifact(run_id, str(copy))


def flat(config: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Nested settings by dotted path; lists stay whole.

    >>> flat({"model": {"layers": 4, "dims": [1, 2]}})
    {'model.layers': 4, 'model.dims': [1, 2]}
    """
    out: dict[str, Any] = {}
    for name, value in config.items():
        out.update(flat(value, f"{at}{name}.") if isinstance(value, Mapping) else {f"{at}{name}": value})
    return out


def text(value: Any) -> str:
    """A parameter's value as MLflow keeps it: a string of at most `VALUE_CHARS` characters."""
    written = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return written if len(written) <= VALUE_CHARS else written[: VALUE_CHARS - 3] + "..."


def said(value: bool) -> str:
    return "true" if value else "false"


def live_points(event: Event) -> Iterable[Metric]:
    """The points one progress report adds: curves by step and by second, and finished stages' seconds."""
    metrics, time_ms = event["metrics"], event["time_ms"]
    for name, value in metrics.items():
        if name.startswith("stage_done/"):
            yield Metric(f"stage_seconds/{name.removeprefix('stage_done/')}", value, time_ms, 0)
        elif name in CURVES:
            yield Metric(name, value, time_ms, event["step"])
            if "train_seconds" in metrics:
                yield Metric(f"{name}_by_second", value, time_ms, int(metrics["train_seconds"]))
        elif name == "progress":
            yield Metric(name, value, time_ms, event["step"])


def outcome_tags(result: Result) -> dict[str, str]:
    """What a finished trial's run can be filtered by."""
    tags = {
        "status": result.status,
        "feasible": said(result.status == "ok"),
        "infeasible": json.dumps([outcome.plain() for outcome in result.infeasible]),
    }
    if "train" in result.stages:
        tags["train_key"] = result.stages["train"].key
    if data := result.provenance.get("data"):
        tags["data_digest"] = digest_of(data)
        if "corpus" in data:
            tags["corpus_digest"] = data["corpus"]
    if result.artifact_sha256:
        tags["artifact_sha256"] = result.artifact_sha256
    if result.error:
        tags["error"] = result.error[-VALUE_CHARS:]
    return tags


def standing(row: Row) -> tuple[int, bool, bool]:
    assert row.rank is not None, "only ranked rows stand somewhere"
    return row.rank, row.feasible, row.pareto


def written_standing(run: Run) -> tuple[int, bool, bool] | None:
    """What was last written for a run; None unless all three are there."""
    metrics = run.data.metrics
    if not {"rank", "feasible", "pareto"} <= metrics.keys():
        return None
    return int(metrics["rank"]), metrics["feasible"] == 1, metrics["pareto"] == 1


COLUMNS = ("rank", "status", "name", "number", "seed", "bpb", "validation_bpb", "prequant_bpb",
           "artifact_bytes", "eval_seconds", "train_seconds", "params", "pareto", "p_value", "why",
           "run_id")  # fmt: skip


def table(rows: Sequence[Row]) -> dict[str, Any]:
    """The board in the form MLflow shows as a table: columns, and one list per row."""
    filled = [{**row.json_ready(), "why": plots.reasons(row)} for row in rows]
    return {"columns": list(COLUMNS), "data": [[row[name] for name in COLUMNS] for row in filled]}
