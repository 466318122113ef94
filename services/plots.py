"""The two pictures of a search: how it went, and what it found.

`progress` shows every trial by number: the feasible ones where their bpb is, the best so far as a step
line, and the infeasible ones on a strip below, marked by what stopped them, because most have no bpb to be
placed by. `pareto` shows what the tuple trades: bpb against artifact bytes with the cap drawn, coloured
by evaluation seconds. Drawn on Figure objects, never through pyplot, whose current figure is a global
and whose backends want a display: these are drawn in a background thread.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pgolf.rules import Rules
from services.leaderboard import Row
from services.wording import why

INK, MUTED, GRID, ACCENT, ALARM = "#1f2430", "#8a93a3", "#e7eaf0", "#1769aa", "#c0392b"
REASON_STYLE = {  # what stopped a trial: its mark, its colour, its words
    "artifact_bytes": ("s", "#c0392b", "over the byte cap"),
    "train_seconds": ("^", "#d68910", "over the training clock"),
    "eval_seconds": ("v", "#b9770e", "over the evaluation clock"),
    "predicted_artifact_bytes": ("D", "#e59866", "predicted over the byte cap"),
    "predicted_peak_memory_bytes": ("h", "#76448a", "predicted over the GPU's memory"),
    "predicted_train_seconds": (">", "#af601a", "predicted over the training clock"),
    "gate": ("x", "#7d3c98", "killed at the gate"),
    "diverged": ("*", "#922b21", "diverged"),
    "certificate": ("P", "#117864", "failed its certificate"),
    "rules": ("p", "#515a5a", "outside the rules"),
}
OTHER_STYLE = ("d", "#566573", "other limit")
FAILED_STYLE = ("X", "#000000", "failed (a fault, not an outcome)")
SIZE_INCHES, DOTS_PER_INCH = (9.0, 5.2), 130


def progress(rows: Sequence[Row], rules: Rules) -> Figure:
    """bpb by trial number, the best so far, and below them the trials that were not feasible."""
    figure, (axes, strip) = _figure(2, height_ratios=[5, 1])
    ranked = [row for row in rows if row.rank is not None]
    feasible = sorted((r for r in ranked if r.feasible and r.bpb is not None), key=lambda r: r.number)
    axes.scatter([r.number for r in feasible], _values(feasible, "bpb"), s=34, color=ACCENT, alpha=0.55,
                 linewidths=0, label="feasible trial", zorder=3)  # fmt: skip
    _best_so_far(axes, feasible, last=max((r.number for r in ranked), default=0))
    for (mark, colour, words), numbers in _stopped(ranked).items():
        strip.scatter(numbers, [0.0] * len(numbers), marker=mark, s=42, color=colour, label=words, zorder=3)
    strip.set(ylim=(-1, 1), yticks=[], xlabel="trial number")
    strip.set_ylabel("not\nfeasible", rotation=0, ha="right", va="center", color=MUTED, fontsize=9)
    strip.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.tick_params(labelbottom=False, length=0)
    axes.set_ylabel("bits per byte as deployed, select split")
    _room_for_outliers(axes, _values(feasible, "bpb"))
    _title(axes, f"Search progress: {_round(rows)}",
           f"{len(feasible)} of {len(ranked)} finished trials feasible under the {rules.name} rules: "
           f"{rules.artifact_bytes:,} bytes, {rules.train_seconds:g} s training, "
           f"{rules.eval_seconds:g} s evaluation")  # fmt: skip
    _legend(figure, axes, strip)
    return figure


def pareto(rows: Sequence[Row], rules: Rules) -> Figure:
    """bpb against artifact bytes, the byte cap, the front; colour is evaluation seconds."""
    figure, (axes,) = _figure(1)
    sized = [row for row in rows if row.artifact_bytes is not None]
    known = [row for row in sized if row.bpb is not None and row.eval_seconds is not None]
    unscored = [row for row in sized if row.bpb is None]
    legal, front = [r for r in known if r.feasible], [r for r in known if r.pareto]
    _not_feasible(axes, [r for r in known if not r.feasible])
    _coloured_by_seconds(figure, axes, legal, rules)
    _along_the_top(axes, unscored)
    _size_limits(axes, _values([*known, *unscored], "artifact_bytes"), rules.artifact_bytes)
    _front_line(axes, front)
    axes.axvline(rules.artifact_bytes, color=ALARM, linewidth=1.4, linestyle=(0, (5, 3)), zorder=1,
                 label=f"byte cap {rules.artifact_bytes:,}")  # fmt: skip
    _room_for_outliers(axes, _values(legal, "bpb"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:,.0f}"))
    axes.set_xlabel("artifact, thousand bytes (code and model)")
    axes.set_ylabel("bits per byte as deployed, select split")
    _title(
        axes,
        f"What the deployed tuple trades: {_round(rows)}",
        f"{len(front)} of {len(legal)} feasible trials on the front of (bpb, bytes, evaluation seconds)",
    )
    _legend(figure, axes)
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PNG."""
    FigureCanvasAgg(figure)
    figure.savefig(file, dpi=DOTS_PER_INCH, facecolor="white")


def plain(axes: Axes) -> None:
    """The look of a report's panels."""
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=8.5)


def reasons(row: Row) -> str:
    """Everything that made a row infeasible, with numbers."""
    return "; ".join(why(outcome) for outcome in row.infeasible)


def _figure(panels: int, height_ratios: Sequence[float] | None = None) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    grid = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=height_ratios)
    axes = [panel for (panel,) in grid]
    for panel in axes:
        panel.grid(True, color=GRID, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(MUTED)
        panel.tick_params(colors=INK, labelsize=9)
        panel.xaxis.label.set(color=INK, fontsize=10)
        panel.yaxis.label.set(color=INK, fontsize=10)
    return figure, axes


def _best_so_far(axes: Axes, feasible: Sequence[Row], last: int) -> None:
    if not feasible:
        return
    numbers = [row.number for row in feasible]
    bests = list(accumulate(_values(feasible, "bpb"), min))
    axes.step([*numbers, last], [*bests, bests[-1]], where="post", color=INK, linewidth=1.8, zorder=2,
              label="best so far")  # fmt: skip
    axes.annotate(f"{bests[-1]:.4f}", (last, bests[-1]), xytext=(-8, 5), textcoords="offset points",
                  ha="right", color=INK, fontsize=10, fontweight="bold")  # fmt: skip


def _not_feasible(axes: Axes, rows: Sequence[Row]) -> None:
    if rows:
        axes.scatter(_values(rows, "artifact_bytes"), _values(rows, "bpb"), marker="x", s=36, color=MUTED,
                     linewidths=1.3, label="not feasible", zorder=2)  # fmt: skip


def _coloured_by_seconds(figure: Figure, axes: Axes, feasible: Sequence[Row], rules: Rules) -> None:
    if not feasible:
        return
    points = axes.scatter(
        _values(feasible, "artifact_bytes"), _values(feasible, "bpb"), s=52, zorder=4,
        c=_values(feasible, "eval_seconds"), cmap="viridis", linewidths=1.1,
        edgecolors=[INK if row.pareto else "white" for row in feasible],
        label="feasible (ringed: on the front)",
    )  # fmt: skip
    bar = figure.colorbar(points, ax=axes, pad=0.02, fraction=0.04)
    bar.set_label(f"evaluation seconds (cap {rules.eval_seconds:g})", color=INK)
    bar.outline.set_visible(False)


def _along_the_top(axes: Axes, unscored: Sequence[Row]) -> None:
    """Trials that have a size and no bpb: ticks at the upper edge."""
    if unscored:
        axes.scatter(_values(unscored, "artifact_bytes"), [0.985] * len(unscored), marker="|", s=60,
                     color=ALARM, transform=axes.get_xaxis_transform(), label="packed, not scored",
                     zorder=2)  # fmt: skip


def _front_line(axes: Axes, front: Sequence[Row]) -> None:
    """The front seen in these two coordinates: what is best at each size, as steps."""
    stairs: list[tuple[float, float]] = []
    for size, bpb in sorted(zip(_values(front, "artifact_bytes"), _values(front, "bpb"), strict=True)):
        if not stairs or bpb < stairs[-1][1]:
            stairs.append((size, bpb))
    if stairs:
        axes.step([x for x, _ in stairs], [y for _, y in stairs], where="post", color=INK, linewidth=1.2,
                  zorder=3, label="best at each size")  # fmt: skip


def _stopped(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[int]]:
    """Trial numbers by what stopped them; a trial with several reasons stands under its first."""
    out: dict[tuple[str, str, str], list[int]] = {}
    for row in rows:
        if row.status == "failed":
            out.setdefault(FAILED_STYLE, []).append(row.number)
        elif row.infeasible:
            out.setdefault(REASON_STYLE.get(row.infeasible[0].reason, OTHER_STYLE), []).append(row.number)
    return out


def _room_for_outliers(axes: Axes, values: Sequence[float]) -> None:
    """Keep the scale where the contest is: a few very bad trials are cut off at the top."""
    if len(values) >= 8:
        ordered = sorted(values)
        best, bulk = ordered[0], ordered[int(0.9 * (len(ordered) - 1))]
        top = bulk + 0.5 * (bulk - best)
        axes.set_ylim(best - 0.12 * (bulk - best), top)
        above = sum(value > top for value in values)
        if above:
            axes.text(0.01, 0.97, f"{above} more above {top:.2f}", transform=axes.transAxes, va="top",
                      color=MUTED, fontsize=9)  # fmt: skip


def _values(rows: Sequence[Row], name: str) -> list[float]:
    """A measurement of rows that are known to have it."""
    return [float(getattr(row, name)) for row in rows]


def _size_limits(axes: Axes, sizes: Sequence[float], cap: int) -> None:
    """From the smallest artifact to a little over the cap; how many lie beyond is said at the edge."""
    if sizes:
        low, high = min(*sizes, cap), max(min(max(sizes), 1.35 * cap), cap)
        margin = 0.04 * (high - low) or 1.0
        axes.set_xlim(low - margin, high + margin)
        if beyond := sum(size > high + margin for size in sizes):
            axes.text(0.99, 0.93, f"{beyond} larger", transform=axes.transAxes, ha="right", va="top",
                      color=MUTED, fontsize=9)  # fmt: skip


def _legend(figure: Figure, *panels: Axes) -> None:
    """One legend below the panels, where no point can be."""
    found = [panel.get_legend_handles_labels() for panel in panels]
    handles = [handle for handles, _ in found for handle in handles]
    labels = [label for _, labels in found for label in labels]
    if handles:
        columns = min(len(labels), 4)
        figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside lower center", ncols=columns)


def _title(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=13, fontweight="bold", color=INK)
    axes.text(0, 1.02, subtitle, transform=axes.transAxes, fontsize=9, color=MUTED)


def _round(rows: Sequence[Row]) -> str:
    return next((row.round for row in rows if row.round), "no trials yet")
