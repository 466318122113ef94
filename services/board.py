"""The leaderboard in a terminal: the trials that could be shipped, then those that could not, and why.

Two tables, because the two kinds are read for different things: the first for its numbers, the second
for what stopped it, which needs the width that the first needs for columns. Columns give way where the
terminal is narrow; numbers are never cut. The bpb ranked by and the validation bpb stay at any width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pgolf.rules import Rules
from services.leaderboard import Row
from services.wording import ABSENT, bits, seconds, whole, why

NOTE = "Ranked by bpb on the select split, by which the search chose; valid is the number to quote."
EVAL_NOTE = "eval s is scoring the select split; of a validated trial, the longer of both splits."
STYLES = {"ok": "", "infeasible": "", "failed": "red", "running": "cyan", "lost": "dim"}


@dataclass(frozen=True)
class Column:
    """A heading, its cell, the terminal width in characters from which it is shown, its alignment."""

    heading: str
    cell: Callable[[Row], str]
    from_width: int = 0
    left: bool = False
    always: bool = False  # shown even where no row has a value


RANK = Column("#", lambda r: (str(r.rank) if r.rank else ABSENT) + ("*" if r.pareto else " "))
NAME = Column("name", lambda r: r.name, left=True)
TRIAL = Column("trial", lambda r: str(r.number), 84)
SEED = Column("seed", lambda r: str(r.seed), 96)
BYTES = Column("bytes", lambda r: whole(r.artifact_bytes))
PREQUANT = Column("pre-q", lambda r: bits(r.prequant_bpb), 100)
TRAIN = Column("train s", lambda r: seconds(r.train_seconds), 110)
SHIPPABLE = (
    RANK, NAME, TRIAL, SEED,
    Column("bpb", lambda r: bits(r.bpb)),
    Column("valid", lambda r: bits(r.validation_bpb), always=True),
    PREQUANT, BYTES,
    Column("eval s", lambda r: seconds(r.eval_seconds), 70),
    TRAIN,
    Column("params", lambda r: whole(r.params), 120),
    Column("p", lambda r: ABSENT if r.p_value is None else f"{r.p_value:.3f}", 84),
)  # fmt: skip
STOPPED = (
    RANK,
    NAME,
    TRIAL,
    SEED,
    PREQUANT,
    BYTES,
    TRAIN,
    Column("why not", lambda r: verdict(r), left=True),
)


def verdict(row: Row) -> str:
    """Why a row is not feasible, with the numbers."""
    if row.status in ("failed", "running", "lost"):
        return row.status
    return "; ".join(why(outcome) for outcome in row.infeasible)


def table(rows: Sequence[Row], columns: Sequence[Column], width: int) -> RenderableType:
    """Rows in the columns that fit a terminal of `width` characters and have something to say."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    shown = [
        c for c in columns
        if width >= c.from_width and (c.always or any(c.cell(r).strip() != ABSENT for r in rows))
    ]  # fmt: skip
    for column in shown:
        folds = column.heading == "why not"
        grid.add_column(column.heading, justify="left" if column.left else "right", no_wrap=not folds,
                        overflow="fold" if folds else "ellipsis")  # fmt: skip
    for row in rows:
        style = "bold green" if row.rank == 1 and row.feasible else STYLES[row.status]
        grid.add_row(*[column.cell(row) for column in shown], style=style)
    return grid


def render(rows: Sequence[Row], console: Console, rules: Rules | None = None) -> None:
    """Print the board of each round, its caps, and what its ranks mean."""
    for name in dict.fromkeys(row.round for row in rows):
        of_round = [row for row in rows if row.round == name]
        feasible, others = [r for r in of_round if r.feasible], [r for r in of_round if not r.feasible]
        console.print(Text(f"{name or 'board'}: {_counts(of_round)}", style="bold"))
        if rules:
            console.print(Text(_caps(rules), style="dim"))
        if feasible:
            console.print(table(feasible, SHIPPABLE, console.width))
        if others:
            console.print(table(others, STOPPED, console.width))
    console.print(Text(_note(rows), style="dim"))


def _counts(rows: Sequence[Row]) -> str:
    statuses = [row.status for row in rows]
    said = [f"{statuses.count('ok')} feasible", f"{statuses.count('infeasible')} not feasible"]
    return ", ".join(said + [f"{n} {s}" for s in ("failed", "running", "lost") if (n := statuses.count(s))])


def _caps(rules: Rules) -> str:
    times = f"{rules.train_seconds:g} s training, {rules.eval_seconds:g} s evaluation"
    return f"caps: {rules.artifact_bytes:,} bytes, {times}"


def _note(rows: Sequence[Row]) -> str:
    lines = [NOTE]
    if any(row.feasible and row.eval_seconds is not None for row in rows):
        lines.append(EVAL_NOTE)
    if any(row.pareto for row in rows):
        lines.append("* on the front of bpb, bytes and evaluation seconds.")
    if any(row.p_value is not None for row in rows):
        lines.append("p: one-sided, that the leader's config is better; seeds are the replicates (Welch).")
    return "\n".join(lines)
