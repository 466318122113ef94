"""Where a trial's bits go, before and after adaptation: by the length of a document, and by the position in it.

    pgolf evaluation-report '#1'

A paired test over documents says whether adaptation helps: documents are what is drawn anew in another split.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from scipy import stats

from pgolf.errors import StoreError
from pgolf.evaluate.__main__ import SCORES
from pgolf.evaluate.drive import starts_of
from pgolf.evaluate.predictor import Extent
from pgolf.formats.ledger import read_ledger
from pgolf.formats.result import Result
from pgolf.formats.shards import read_split
from pgolf.pipeline import tokens_of
from pgolf.run import parse_config
from pgolf.stage import Store
from services import plots

FILES = JSON, PICTURE = "report.json", "report.png"
NAMES = {"by_length": "targets of the document", "by_position": "targets of it before"}
SECONDS = (
    "score_seconds",
    "adapt_seconds",
    "memory_seconds",
    "eval_seconds",
    "load_seconds",
    "eval_seconds_strict",
)


@dataclass(frozen=True)
class Paired:
    """A paired test over documents: mean difference in bits per byte, its standard error, two-sided p."""

    documents: int
    better: int
    mean_bpb: float  # adapted less quantized: below 0 is better
    standard_error: float
    p: float


@dataclass(frozen=True)
class EvaluationReport:
    run: str
    mode: str
    bpb: dict[str, float]  # by stage: evaluate, adapt, validate
    seconds: dict[str, dict[str, float]]  # by stage, clock by clock
    tables: dict[str, dict[str, list[dict[str, float]]]]  # by stage, then by_length and by_position
    paired: Paired | None

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def report_of(result: Result, store: Store) -> EvaluationReport:
    """Raises StoreError if the trial was not scored, or its scores are gone."""
    names = {"evaluate": "evaluate_select", "adapt": "evaluate_select", "validate": "evaluate_validation"}
    homes = {
        stage: found.path
        for stage, name in names.items()
        if stage in result.stages and (found := store.find(name, result.stages[stage].key)) is not None
    }
    if "evaluate" not in homes:
        raise StoreError("a report is of a trial whose scores the store still has", f"{result.name}: {result.status}",
                         f"a feasible trial, or `pgolf run` its config again with --store {store.root}")  # fmt: skip
    said = {stage: json.loads((home / SCORES).read_text()) for stage, home in homes.items()}
    paired = None
    if "adapt" in homes and (tokens := tokens_of(result, store)) is not None:
        ids, counts = read_split(tokens.path, "select")
        paired = paired_test(ids, counts, *(read_ledger(homes[stage])[1] for stage in ("evaluate", "adapt")))
    metrics = {stage: result.stages[stage].metrics for stage in homes}
    return EvaluationReport(
        run=result.name,
        mode=parse_config(result.config).evaluate.described,
        bpb={stage: one["bpb"] for stage, one in said.items()},
        seconds={stage: {n: m[n] for n in SECONDS if n in m} for stage, m in metrics.items()},
        tables={stage: one["breakdown"] for stage, one in said.items()},
        paired=paired,
    )


def paired_test(
    ids: NDArray[np.integer], counts: NDArray[np.integer], before: NDArray[np.float64], after: NDArray[np.float64]
) -> Paired | None:  # fmt: skip
    """Whether documents cost less afterwards. None for fewer than two documents with bytes."""
    extent = Extent(len(ids), starts_of(ids))
    size, old, new = (
        np.bincount(extent.documents, weights=values[1:].astype(np.float64), minlength=len(extent.starts))
        for values in (counts, before, after)
    )
    held = size > 0
    if held.sum() < 2:
        return None
    difference = (new[held] - old[held]) / math.log(2) / size[held]
    test = stats.ttest_1samp(difference, 0.0)
    error = float(difference.std(ddof=1) / math.sqrt(len(difference)))
    return Paired(
        int(held.sum()), int((difference < 0).sum()), float(difference.mean()), error, float(test.pvalue)
    )


def render(report: EvaluationReport) -> RenderableType:
    """Tables for the terminal."""
    parts: list[RenderableType] = [Text(f"{report.run}: {report.mode}", style="bold")]
    clocks = Table(box=box.SIMPLE)
    clocks.add_column("stage")
    for name in ("bpb", *SECONDS):
        clocks.add_column(name.replace("_", " "), justify="right")
    for stage, bpb in report.bpb.items():
        seconds = report.seconds[stage]
        clocks.add_row(stage, f"{bpb:.4f}", *(f"{seconds[n]:.2f}" if n in seconds else "" for n in SECONDS))
    parts.append(clocks)
    if (paired := report.paired) is not None:
        parts.append(Text(
            f"adapted - quantized, paired over {paired.documents} documents: {paired.mean_bpb:+.4f} bits per byte "
            f"(standard error {paired.standard_error:.4f}, p {paired.p:.2g}); {paired.better} of them better"
        ))  # fmt: skip
    stages = [stage for stage in report.tables if stage != "validate"]
    for name, label in NAMES.items():
        table = Table(box=box.SIMPLE)
        for heading in (label, "targets", "bytes", *stages):
            table.add_column(heading, justify="right")
        for row, *others in zip(*(report.tables[stage][name] for stage in stages), strict=True):
            bits = [f"{r['bpb']:.4f}" if "bpb" in r else "" for r in (row, *others)]
            table.add_row(
                f"{row['from']:.0f} and more", f"{row['targets']:,.0f}", f"{row['bytes']:,.0f}", *bits
            )
        parts.append(table)
    return Group(*parts)


def write(report: EvaluationReport, folder: Path) -> None:
    """The report as JSON and as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON).write_text(json.dumps(report.plain(), indent=1, sort_keys=True))
    picture(report, folder / PICTURE)


def picture(report: EvaluationReport, file: Path) -> None:
    """Bits per byte by length and by position, a line a stage, over the bytes that are there."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    names = {"evaluate": "quantized", "adapt": "adapted", "validate": "validation"}
    for axes, (name, label) in zip(figure.subplots(1, 2), NAMES.items(), strict=True):
        for stage, tables in report.tables.items():
            rows = [row for row in tables[name] if "bpb" in row]
            axes.plot([max(r["from"], 0.5) for r in rows], [r["bpb"] for r in rows], "o-", label=names[stage])
        share = report.tables["evaluate"][name]
        beside = axes.twinx()
        beside.bar([max(r["from"], 0.5) for r in share], [r["bytes"] / 1000 for r in share], color="#d5d8dc",
                   width=[0.6 * max(r["from"], 0.5) for r in share])  # fmt: skip
        beside.set_ylabel("kilobytes (grey)")
        plots.plain(axes)
        beside.spines[["top"]].set_visible(False)
        axes.set_zorder(beside.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.set_xscale("log", base=2)
        axes.set_xlabel(label)
        axes.set_ylabel("bits per byte")
        axes.legend()
    figure.suptitle(f"{report.run}: {report.mode}")
    plots.save(figure, file)
