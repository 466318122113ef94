"""Who leads: one ranking, from MLflow's own records, of the deployed tuple.

Rank orders by what can be shipped. Feasible trials come first, by (bpb, artifact bytes, eval seconds).
Then the infeasible, those whose deployed tuple is known further up and the smaller violation first: a
trial 3 % over the byte cap says more about the space than one killed at its gate. Then the failed ones,
by number. Running and lost trials have no rank. The Pareto front is that of the feasible trials in the
same three coordinates; asking for the board `by="pareto"` changes the order, never the rank.

Ranks come from the select split: the search chose by it, so the leaders' select bpb is flattered, and
the validation bpb beside it is the number to quote.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlflow.entities import Experiment, Run
from pydantic import Field

from pgolf.errors import Infeasible, StoreError, nearest
from pgolf.section import Section
from services import significance
from services.mlflow_client import MlflowClient, client_to_read

By = Literal["deployed", "pareto"]
BOARD_VIEW = "leaderboard"  # the name under which the UI keeps the leaderboard as a shared view
SINGLE = "single"  # the round of trials that belong to no search
PAGE = 1000  # runs per request to MLflow


class Row(Section):
    """One trial on the board. Absent measurements are None: they were not made."""

    run_id: str | None = None
    rank: int | None = None
    status: Literal["ok", "infeasible", "failed", "running", "lost"]
    name: str
    recipe: str
    round: str = ""
    number: int = 0
    bpb: float | None = None  # select split
    validation_bpb: float | None = None
    prequant_bpb: float | None = None
    nats_per_token: float | None = None
    artifact_bytes: int | None = None
    eval_seconds: float | None = None
    train_seconds: float | None = None
    params: int | None = None
    config_digest: str = ""
    data_digest: str = ""  # of all data it was made of: corpus, tokenizer, shards
    corpus_digest: str = ""  # of the text alone; empty where the data came as shards
    seed: int = 0
    feasible: bool = False
    pareto: bool = False
    infeasible: list[Infeasible] = Field(default_factory=list)
    p_value: float | None = None  # one-sided, that the leader's config is better than this row's
    significance: str = ""  # how p was made, or why there is none

    def json_ready(self) -> dict[str, Any]:
        """Every field, None included: scripts should not have to guess which keys exist."""
        plain = self.plain()  # leaves out what is None
        return {name: plain.get(name) for name in type(self).model_fields}


MEASURED = (
    "bpb", "validation_bpb", "prequant_bpb", "nats_per_token", "artifact_bytes", "eval_seconds",
    "train_seconds", "params",
)  # fmt: skip


def row_of_run(run: Run) -> Row:
    """An unranked row from a child run of MLflow."""
    tags, metrics = run.data.tags, run.data.metrics
    measured = {name: metrics[name] for name in MEASURED if name in metrics}
    return Row(
        run_id=run.info.run_id,
        status=tags["status"],
        name=run.info.run_name or run.info.run_id,
        recipe=tags.get("recipe", ""),
        round=tags.get("round", ""),
        number=int(tags["pgolf.trial"].rpartition("/")[2]),
        config_digest=tags.get("config_digest", ""),
        data_digest=tags.get("data_digest", ""),
        corpus_digest=tags.get("corpus_digest", ""),
        seed=int(tags.get("seed", 0)),
        feasible=tags["status"] == "ok",
        infeasible=json.loads(tags.get("infeasible", "[]")),
        **measured,
    )


# ---------------------------------------------------------------------------------------- ranking


def rank_rows(rows: Iterable[Row], by: By = "deployed") -> list[Row]:
    """The rows in order of the board, with `rank` and `pareto` filled in: round after round, each its own."""
    rounds: dict[str, list[Row]] = {}
    for row in rows:
        rounds.setdefault(row.round, []).append(row)
    return [row for of_round in rounds.values() for row in _rank_round(of_round, by)]


def _rank_round(rows: Sequence[Row], by: By) -> list[Row]:
    ordered = sorted(rows, key=_place)
    front = {id(row) for row in _front([r for r in ordered if r.feasible])}
    ranked = [
        row.but(rank=place if row.status in ("ok", "infeasible", "failed") else None, pareto=id(row) in front)
        for place, row in enumerate(ordered, start=1)
    ]
    return sorted(ranked, key=lambda row: not row.pareto) if by == "pareto" else ranked


def _place(row: Row) -> tuple[Any, ...]:
    group = {"ok": 0, "infeasible": 1, "failed": 2, "running": 3, "lost": 4}[row.status]
    deployed = (row.bpb, row.artifact_bytes, row.eval_seconds)
    unknown = sum(value is None for value in deployed)
    violation = sum(outcome.violation for outcome in row.infeasible)
    merit = tuple(float("inf") if value is None else value for value in deployed)
    last = (row.number, row.run_id or "")  # makes the order total, so that two readers agree
    return (group, *(merit if group == 0 else (unknown, violation, 0.0)), *last)


def _front(feasible: Sequence[Row]) -> list[Row]:
    points = [(row, (row.bpb, row.artifact_bytes, row.eval_seconds)) for row in feasible]
    known = [(row, point) for row, point in points if None not in point]
    return [row for row, point in known if not any(_dominates(other, point) for _, other in known)]


def _dominates(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def with_significance(rows: Sequence[Row]) -> list[Row]:
    """One round's ranked rows with p values: the leader's config against every other feasible config.

    Replicates are trials of one config on the same data. The embedded corpus is the Python version's own,
    so one store can have two: bpb of different texts are not compared. (Of shards the text is not known.)
    """
    leader = next((row for row in rows if row.rank == 1 and row.feasible), None)
    if leader is None:
        return list(rows)
    groups: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.feasible and row.bpb is not None:
            groups.setdefault(_replicated(row), {}).setdefault(row.seed, row.bpb)
    verdicts = significance.against_leader(groups, _replicated(leader))
    return [_judged(row, leader, verdicts) for row in rows]


def _replicated(row: Row) -> str:
    """What a row is one measurement of: rows that agree in it differ by their seeds only."""
    return f"{row.config_digest} {row.data_digest}"


def _judged(row: Row, leader: Row, verdicts: Mapping[str, significance.Verdict]) -> Row:
    if not row.feasible:
        return row
    if row.corpus_digest != leader.corpus_digest:
        return row.but(significance="another corpus than the leader's: not compared")
    verdict = verdicts.get(_replicated(row))
    return row.but(p_value=verdict.p, significance=verdict.note) if verdict else row


# ---------------------------------------------------------------------------------------- reading


def read_board(
    store_dir: Path, tracking_uri: str | None = None, round_name: str | None = None, by: By = "deployed"
) -> list[Row]:
    """The leaderboard as MLflow has it: of one round, or of every round one after the other.

    Raises:
        StoreError: if nothing was recorded yet, or there is no such round.
    """
    client = client_to_read(store_dir, tracking_uri)
    wanted = [e for e in rounds(client) if round_name in (None, e.name)]
    if not wanted:
        known = [e.name for e in rounds(client)]
        if round_name is None or not known:
            raise StoreError(
                "there is a board once a trial was recorded", str(store_dir), "run `pgolf search ROUND`"
            )
        raise StoreError(
            "a board is named by a round that was searched", round_name, nearest(round_name, known)
        )
    boards = [rank_rows(map(row_of_run, trial_runs(client, e.experiment_id)), by) for e in wanted]
    return [row for board in boards for row in with_significance(board)]


def rounds(client: MlflowClient) -> list[Experiment]:
    """The experiments that pgolf made, one per round, by name."""
    mine = [e for e in client.search_experiments() if "pgolf.round" in e.tags]
    return sorted(mine, key=lambda e: e.name)


def trial_runs(client: MlflowClient, experiment_id: str, filter_string: str = "") -> list[Run]:
    """Every child run of an experiment (parents carry no trial number)."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], filter_string, max_results=PAGE, page_token=token)
        runs += [run for run in page if "pgolf.trial" in run.data.tags]
        token = page.token
        if not token:
            return runs
