"""What an evaluation's memories proposed, and what that was worth: from the log that lies beside the scores.

    gain            nll of the distribution below - nll of the changed one, nats; exact over all targets
    expected gain   r beta - ln(1 + q (e^beta - 1)) of what the memory believed, before the target came
    oracle          what the same tilts would gain if each were made only where it helps: a bound, never a score

A memory that cannot tell its gain beforehand is a hopeful cache: expected and realized gain are compared bucket by
bucket, by how sure it was (r) and how sure the network was (q). Proposals that changed little are logged where the
place in the stream is a multiple of 16 and count for 16 here; whatever the gate let through is logged whole.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgolf.errors import StoreError
from pgolf.evaluate.__main__ import MEMORY_EVENTS
from pgolf.evaluate.memory.gate import gain
from pgolf.evaluate.memory.remembering import EVENT_COLUMNS, SAMPLE, TOTALS
from pgolf.formats.arrays import read_arrays
from pgolf.formats.result import Result
from pgolf.run import parse_config
from pgolf.stage import Store
from services.wording import ABSENT, piped, whole

CONF = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
Q = (0.0, 0.05, 0.2, 0.5, 0.8, 1.0)
DISTANCE = (0, 16, 64, 256, 1024, 4096, 16_384)  # tokens back to the source; and further
FILES = JSON, MARKDOWN, PICTURE = "report.json", "report.md", "report.png"
Events = Mapping[str, NDArray]


@dataclass(frozen=True)
class Bucket:
    """Proposals that are alike. Means are over all of them, sums over what was gained."""

    proposals: float
    conf: float  # mean r
    q: float  # mean of what the network gave the hint
    hit_rate: float
    gated: float  # how many the gate let through
    expected_nats: float
    gained_nats: float

    @staticmethod
    def of(events: Events, chosen: NDArray[np.bool_]) -> "Bucket | None":
        w = events["weight"][chosen]
        if not len(w):
            return None

        def mean(name: str) -> float:
            return float((w * events[name][chosen]).sum() / w.sum())

        return Bucket(
            proposals=float(w.sum()), conf=mean("conf"), q=mean("q"), hit_rate=mean("hit"),
            gated=float(events["gated"][chosen].sum()),
            expected_nats=float((w * events["expected"][chosen]).sum()),
            gained_nats=float(-(w * events["dloss"][chosen]).sum()),
        )  # fmt: skip


@dataclass(frozen=True)
class MemoryPart:
    """One memory of a chain."""

    kind: str
    targets: int
    base_nats: float  # of all targets, below it
    gained_nats: float  # of all targets, exactly
    believed_nats: float  # the same, had the memory always been believed
    gated: Bucket | None  # what the gate let through
    proposals: Bucket | None
    acted_share: float  # of proposals, those of positive expected gain
    oracle_nats: float
    calibration: tuple[tuple[int, int, Bucket], ...]  # (conf bucket, q bucket, what is in it)
    lengths: tuple[tuple[int, bool, Bucket], ...]  # (context's length, source in the window, what is in it)
    near: Bucket | None  # proposals whose source the attention window still holds
    far: Bucket | None
    distances: tuple[tuple[int, Bucket], ...]  # (at least so many tokens back, what is in it)

    @property
    def gain_per_target(self) -> float:
        return self.gained_nats / self.targets


@dataclass(frozen=True)
class MemoryReport:
    """A trial's memories from the network up."""

    run: str
    split: str
    parts: tuple[MemoryPart, ...]
    bytes: float | None = None  # of the text, where gains in bits per byte are to be said
    memory_seconds: float | None = None
    eval_seconds: float | None = None

    def bpb(self, nats: float) -> float | None:
        return None if self.bytes is None else nats / math.log(2) / self.bytes

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"gained_bpb": [self.bpb(p.gained_nats) for p in self.parts]}


def memory_report(
    logs: Events, kinds: Sequence[str], run: str = "", split: str = "select", bytes_: float | None = None,
    seconds: tuple[float, float] | None = None,
) -> MemoryReport:  # fmt: skip
    """The report of a log.

    Args:
        logs: as the evaluation wrote them (`memory_events.npz`).
        kinds: of the memories, from the network up.
        seconds: in memories, and of the whole evaluation.
    """
    if missing := {*EVENT_COLUMNS, *(f"total_{name}" for name in TOTALS)} - logs.keys():
        raise StoreError("a log of memories is of this version", f"it has no {min(missing)}",
                         "evaluate the trial again: `pgolf reproduce RUN --from evaluate`")  # fmt: skip
    parts = []
    for number, kind in enumerate(kinds):
        own = logs["memory"] == number
        events = {name: logs[name][own].astype(np.float64) for name in EVENT_COLUMNS}
        events["weight"] = np.where(events["gated"] > 0, 1.0, float(SAMPLE))
        events["expected"] = gain(events["conf"], events["q"], events["beta"])
        totals = (logs[f"total_{name}"][number] for name in TOTALS)
        parts.append(_part(kind, events, *map(float, totals)))
    return MemoryReport(run, split, tuple(parts), bytes_, *(seconds or (None, None)))


def _part(
    kind: str, events: Events, targets: float, base: float, dloss: float, believed: float
) -> MemoryPart:  # fmt: skip
    weight, everything = events["weight"], np.ones(len(events["pos"]), dtype=bool)
    conf = np.clip(np.searchsorted(CONF, events["conf"], "right") - 1, 0, len(CONF) - 2)
    q = np.clip(np.searchsorted(Q, events["q"], "right") - 1, 0, len(Q) - 2)
    distance = np.searchsorted(DISTANCE, np.abs(events["dist"]), "right") - 1
    near, length = events["in_window"] > 0, events["match_len"].astype(np.int64)
    sourced = events["dist"] <= events["pos"]  # a bias has no source
    cells = [
        (c, k, Bucket.of(events, (conf == c) & (q == k)))
        for c in range(len(CONF) - 1)
        for k in range(len(Q) - 1)
    ]
    spans = [(n, w, Bucket.of(events, sourced & (length == n) & (near == w))) for n in np.unique(length).tolist()
             for w in (True, False)]  # fmt: skip
    apart = [(d, Bucket.of(events, sourced & (distance == i))) for i, d in enumerate(DISTANCE)]
    return MemoryPart(
        kind=kind, targets=int(targets), base_nats=base, gained_nats=-dloss, believed_nats=-believed,
        gated=Bucket.of(events, events["gated"] > 0), proposals=Bucket.of(events, everything),
        acted_share=float((weight * (events["expected"] > 0)).sum() / max(weight.sum(), 1)),
        oracle_nats=float((weight * np.maximum(-events["dloss"], 0)).sum()),
        calibration=tuple((c, k, b) for c, k, b in cells if b is not None),
        lengths=tuple((n, w, b) for n, w, b in spans if b is not None),
        near=Bucket.of(events, near), far=Bucket.of(events, sourced & ~near),
        distances=tuple((d, b) for d, b in apart if b is not None),
    )  # fmt: skip


def report_of(result: Result, store: Store) -> MemoryReport:
    """The report of a recorded trial.

    Raises:
        StoreError: if the trial has no memory, or the store no longer has its log.
        ConfigError: if the stored config is not one of this version of pgolf.
    """
    memory = parse_config(result.config).evaluate.memory
    if memory is None or "adapt" not in result.stages:
        raise StoreError(
            "only a trial that was scored with a memory has a memory report",
            f"{result.name}: {'no memory' if memory is None else result.status}",
            "--set evaluate.memory.kind=token_tilt, in a mode that opens documents",
        )
    key = result.stages["adapt"].key
    found = store.find("evaluate_select", key)
    if found is None or not (found.path / MEMORY_EVENTS).is_file():
        raise StoreError(
            "the store still has the memories' log",
            f"evaluate_select/{key} in {store.root}",
            f"`pgolf run` its config again with --store {store.root}: what is lost is made again under its key",
        )
    kinds = [m.plain()["kind"] for m in reversed(memory.chain)]
    size, own, whole_ = (found.metrics[name] for name in ("val_bytes", "memory_seconds", "eval_seconds"))
    logs = read_arrays(found.path / MEMORY_EVENTS)
    return memory_report(logs, kinds, result.name, "select", size, (own, whole_))


# ---------------------------------------------------------------------------------------- tables

Rows = list[list[str]]
PARTS = ("memory", "gain, mnat a token", "gain, bpb", "always believed, mnat a token", "proposals", "gated",
         "hits, gated", "believed, gated", "expected, mnat a token", "gated, mnat a token", "oracle, mnat a token",
         "in window", "beyond")  # fmt: skip
CELLS = (
    "memory",
    "r",
    "q",
    "proposals",
    "gated",
    "mean r",
    "hit rate",
    "expected, mnat each",
    "gained, mnat each",
)


def _mnat(nats: float, per: float) -> str:
    return f"{1000 * nats / per:+.2f}" if per else ABSENT


def _in(part: MemoryPart, bucket: Bucket | None) -> str:
    return ABSENT if bucket is None else _mnat(bucket.gained_nats, part.targets)


def part_rows(report: MemoryReport) -> Rows:
    rows = []
    for p in report.parts:
        g, bpb = p.gated, report.bpb(p.gained_nats)
        rows.append([
            p.kind, _mnat(p.gained_nats, p.targets), ABSENT if bpb is None else f"{bpb:+.5f}",
            _mnat(p.believed_nats, p.targets),
            whole(p.proposals.proposals if p.proposals else 0), whole(g.gated if g else 0),
            f"{g.hit_rate:.3f}" if g else ABSENT, f"{g.conf:.3f}" if g else ABSENT,
            *((_mnat(g.expected_nats, p.targets), _mnat(g.gained_nats, p.targets)) if g else (ABSENT, ABSENT)),
            _mnat(p.oracle_nats, p.targets), _in(p, p.near), _in(p, p.far),
        ])  # fmt: skip
    return rows


def cell_rows(report: MemoryReport) -> Rows:
    return [
        [p.kind, f"{CONF[c]:g} to {CONF[c + 1]:g}", f"{Q[k]:g} to {Q[k + 1]:g}", whole(b.proposals), whole(b.gated),
         f"{b.conf:.3f}", f"{b.hit_rate:.3f}", _mnat(b.expected_nats, b.proposals), _mnat(b.gained_nats, b.proposals)]
        for p in report.parts for c, k, b in p.calibration
    ]  # fmt: skip


def notes(report: MemoryReport) -> list[str]:
    """What the numbers do not say by themselves."""
    out = [
        f"{whole(report.parts[0].targets)} targets of the {report.split} split; a gain is what the memory took off"
    ]
    if report.memory_seconds is not None and report.eval_seconds is not None:
        share = report.memory_seconds / max(report.eval_seconds, 1e-9)
        out.append(f"memories took {report.memory_seconds:.1f} s of the evaluation's {report.eval_seconds:.1f} s "
                   f"({share:.0%}), this log included")  # fmt: skip
    out.append("oracle: the same tilts made only where they help, a bound and never a score")
    out.append(f"of proposals that changed little every {SAMPLE}th place was logged, and counts for {SAMPLE}")
    return out


def render(report: MemoryReport) -> RenderableType:
    """For the terminal."""
    tables = [_table(PARTS, part_rows(report)), _table(CELLS, cell_rows(report))]
    return Group(Text(f"{report.run}: memories from the network up", "bold"), *tables,
                 *[Text(line) for line in notes(report)])  # fmt: skip


def _table(headings: Sequence[str], rows: Rows) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading.replace(" ", "\n"), no_wrap=True, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(report: MemoryReport) -> str:
    parts = [
        f"# Memory report: {report.run}", f"![Calibration and gains]({PICTURE})",
        "\n".join(f"- {line}" for line in notes(report)),
        "## Memories, from the network up", _piped(PARTS, part_rows(report)),
        "## By what was believed (r) and what the network gave (q)", _piped(CELLS, cell_rows(report)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _piped(headings: Sequence[str], rows: Rows) -> str:
    return piped(headings, rows, headings[:1])


def write(report: MemoryReport, directory: Path) -> None:
    """The report's three files."""
    from services.memory_picture import picture
    from services.plots import save

    directory.mkdir(parents=True, exist_ok=True)
    (directory / JSON).write_text(json.dumps(report.plain(), indent=1) + "\n")
    (directory / MARKDOWN).write_text(markdown(report))
    save(picture(report), directory / PICTURE)
