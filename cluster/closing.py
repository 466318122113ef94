"""The screen a search ends with: the board, where everything lies, and what to type next."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from cluster.driver import SearchOutcome
from pgolf.rules import Rules
from pgolf.stage import Store
from search_spaces.study import without_password
from services.board import render
from services.leaderboard import read_board

ENDED = {
    "trials": "every trial of the round is done",
    "budget": "the budget is spent",
    "interrupt": "stopped before the end",
}


def closing_screen(
    console: Console,
    outcome: SearchOutcome,
    rules: Rules,
    place: Store,
    options: Mapping[str, str | None],
    front: bool = False,
) -> None:
    """Print it. `options` are those the user gave, so that the commands can be typed as shown."""
    tracking_uri = options.get("--tracking-uri")
    rows = read_board(place.directory, tracking_uri, outcome.round_name)
    console.print()
    render(rows, console, rules)
    say = Console(highlight=False).print
    given = {n: shlex.quote(without_password(v)) for n, v in options.items() if v is not None}
    again = "".join(f" {name} {value}" for name, value in given.items()) + (" --front" if front else "")
    option = "".join(f" {name} {given[name]}" for name in ("--store", "--tracking-uri") if name in given)
    infeasible = sum(r.status == "infeasible" for r in outcome.results.values())
    counts = f"{len(outcome.results)} trials, {infeasible} of them infeasible"
    say(f"\n{ENDED[outcome.stopped_by]}: {counts}", soft_wrap=True)
    best = outcome.best
    failed = [result.error or "" for result in outcome.results.values() if result.status == "failed"]
    if failed:
        last = failed[-1].strip().splitlines()[-1:]
        say(
            f"{len(failed)} failed, which is a fault and not an outcome; the last: {''.join(last)}",
            soft_wrap=True,
        )
    elif best is None:
        say("no trial was feasible: loosen the round's rules or its space", soft_wrap=True)
    for number, error in outcome.unscored.items():
        say(f"trial {number} could not be validated: {error.strip().splitlines()[-1]}", soft_wrap=True)
    say("\nwhere everything is", style="bold")
    say(f"  stages and artifacts  {place.root}", soft_wrap=True)
    say(f"  study (Optuna)        {_shown(without_password(outcome.study_storage))}", soft_wrap=True)
    say(f"  records (MLflow)      {tracking_uri or place.directory / 'mlflow.db'}", soft_wrap=True)
    say("\nwhat to type next", style="bold")
    pgolf = ".venv/bin/pgolf" if Path(".venv/bin/pgolf").exists() else "pgolf"
    lines = [("the leaderboard with its plots, in a browser", f"{pgolf} ui{option}")]
    if outcome.stopped_by == "interrupt":
        lines.insert(0, ("go on", f"{pgolf} search {outcome.round_name} --resume{again}"))
    else:
        more = len(outcome.results) + 10
        lines.append(
            ("ten more trials", f"{pgolf} search {outcome.round_name} --resume --trials {more}{again}")
        )
    if best is not None:
        winner = f"{outcome.round_name}#1"
        lines[1:1] = [
            ("the winner's card", f"{pgolf} show '{winner}'{option}"),
            ("the winner again, from its config", f"{pgolf} reproduce '{winner}'{option}"),
            ("the winner's certificate", f"{pgolf} certify '{winner}'{option}"),
        ]
    for what, command in lines:
        say(f"  {what:<45} {command}", soft_wrap=True)


def _shown(storage: str) -> str:
    return storage.removeprefix("sqlite:///")
