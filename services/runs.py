"""What a person means by RUN: a place on a board, a name, an id, or a file.

    #1  laptop#3        a rank (of the only search's round, or of the one named)
    laptop_late-1f3a    a run's name, or any beginning of it that only one run has
    8c0f2e              an MLflow run id, or such a beginning of it
    out/result.json     a result's file, or the folder that holds it

A beginning that several runs share is an error that lists them, and an unknown one names the nearest:
guessing would reproduce, export or certify something else than was asked for.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pgolf.errors import StoreError, nearest
from pgolf.formats.result import Result
from services.leaderboard import SINGLE, Row, read_board
from services.mlflow_client import client_to_read

SHOWN = 6  # candidates that an error lists


def resolve(run: str, store_dir: Path, tracking_uri: str | None = None) -> tuple[Result, str | None]:
    """A trial's result and its MLflow run id (None for a file).

    Raises:
        StoreError: if no trial, or more than one, answers to `run`, or it has no result yet.
    """
    file = Path(run) / "result.json" if Path(run).is_dir() else Path(run)
    if file.is_file():
        return Result.read(file), None
    if file.suffix == ".json":
        raise StoreError(
            "a result is a file that exists", run, "give a run's name, its id, or a rank like '#1'"
        )
    row = find(run, read_board(store_dir, tracking_uri))
    assert row.run_id is not None, "rows of MLflow have their run's id"
    if row.status in ("running", "lost"):
        raise StoreError("a run has a result once it has finished", f"{row.name} is {row.status}",
                         "see `pgolf board`; resume the search with --resume")  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        client = client_to_read(store_dir, tracking_uri)
        return Result.read(Path(client.download_artifacts(row.run_id, "result.json", work))), row.run_id


def find(run: str, rows: Sequence[Row]) -> Row:
    """The one row that `run` stands for."""
    if "#" in run:
        return _by_rank(run, rows)
    for exact in ([r for r in rows if run == r.run_id], [r for r in rows if run == r.name]):
        if exact:
            return _only(run, exact)
    begins = [r for r in rows if run and ((r.run_id or "").startswith(run) or r.name.startswith(run))]
    if not begins:
        raise StoreError("a run is named by rank, name, run id or a result.json", run or "nothing",
                         nearest(run, {row.name for row in rows}))  # fmt: skip
    return _only(run, begins)


def _by_rank(run: str, rows: Sequence[Row]) -> Row:
    round_name, _, place = run.partition("#")
    rounds = sorted({row.round for row in rows}, key=lambda name: (name == SINGLE, name))  # searches first
    if not round_name:
        round_name = _only_search(run, rounds)
    if round_name and round_name not in rounds:
        raise StoreError("a rank is one of a round that was searched", run, nearest(round_name, rounds))
    ranked = {row.rank: row for row in rows if row.rank and row.round == round_name}
    if not place.isdigit() or int(place) not in ranked:
        way_out = f"ranks go from #1 to #{len(ranked)}" if ranked else "no trial has finished"
        raise StoreError("a rank is a place on the board", run, way_out)
    return ranked[int(place)]


def _only_search(run: str, rounds: Sequence[str]) -> str:
    """The round that a rank alone is of: single trials beside a search do not make it mean two."""
    searched = [name for name in rounds if name != SINGLE] or list(rounds)
    if len(searched) > 1:
        *others, last = [f"{name}{run}" for name in rounds[:SHOWN]]
        way_out = f"say {', '.join(others)} or {last}"
        raise StoreError("a rank alone needs a store with one searched round", run, way_out)
    return searched[0] if searched else ""


def _only(run: str, rows: Sequence[Row]) -> Row:
    if len(rows) > 1:
        named = [
            f"{row.name} ({(row.run_id or '')[:8]}, trial {row.number}, seed {row.seed})" for row in rows
        ]
        raise StoreError(f"a run's name must mean one run; {len(rows)} answer to it", run,
                         f"use one of the ids: {_few(named)}")  # fmt: skip
    return rows[0]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
