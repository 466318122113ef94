"""The picture of a memory report: is it right as often as it believes, does it gain what it expects, and where.

A row for each memory of the chain. Left: how often hints were right against how often they were believed to be, a
mark for each bucket of what the network gave the hint; on the diagonal the memory tells the truth. Middle: what a
proposal gained against what it was expected to, by the same buckets. Right: what was gained by the length of the
context that was found again, from sources in the attention window and from beyond it.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from services.memory_report import MemoryPart, MemoryReport, Q
from services.plots import ACCENT, INK, MUTED, plain

Q_STYLE = (
    ("#0072B2", "o"),
    ("#56B4E9", "s"),
    ("#009E73", "D"),
    ("#E69F00", "^"),
    ("#D55E00", "v"),
)  # Okabe and Ito
BEYOND = "#E69F00"
LEAST = 16  # proposals of a bucket that is shown: fewer are noise, and would set the scale
ROW_INCHES, MARGIN_INCHES, WIDTH_INCHES = 3.7, 1.0, 13.5


def picture(report: MemoryReport) -> Figure:
    """Three panels a memory."""
    rows = len(report.parts)
    figure = Figure(figsize=(WIDTH_INCHES, ROW_INCHES * rows + MARGIN_INCHES), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    panels = figure.subplots(rows, 3, squeeze=False)
    for (left, middle, right), part in zip(panels, report.parts, strict=True):
        for axes in (left, middle, right):
            plain(axes)
        _calibration(left, part)
        _expected(middle, part)
        _where(right, part)
    figure.suptitle(_headline(report), x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    marks = [Line2D([], [], marker=mark, color=colour, linestyle="", label=f"q {low:g} to {high:g}")
             for (colour, mark), low, high in zip(Q_STYLE, Q[:-1], Q[1:], strict=True)]  # fmt: skip
    figure.legend(handles=marks, loc="outside lower left", frameon=False, fontsize=9, ncols=len(marks),
                  title="probability that the network gave the hint; area: proposals", title_fontsize=9,
                  alignment="left")  # fmt: skip
    return figure


def _headline(report: MemoryReport) -> str:
    words = []
    for part in report.parts:
        bpb = report.bpb(part.gained_nats)
        said = f"{1000 * part.gain_per_target:.1f} mnat a token"
        words.append(f"{part.kind} gains {said}" + ("" if bpb is None else f" ({bpb:.4f} bpb)"))
    clock = "" if report.memory_seconds is None else f", in {report.memory_seconds:.1f} s"
    return f"{report.run}: {', '.join(words)}{clock}"


def _calibration(axes: Axes, part: MemoryPart) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.0, zorder=1)
    for _, k, b in part.calibration:
        if b.proposals < LEAST:
            continue
        colour, mark = Q_STYLE[k]
        axes.scatter(b.conf, b.hit_rate, s=_area(b.proposals), color=colour, marker=mark, edgecolors="white",
                     linewidths=0.6, alpha=0.9, zorder=3)  # fmt: skip
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    _say(axes, f"{part.kind}: right as often as believed?", "believed to be right (r)", "were right")


def _expected(axes: Axes, part: MemoryPart) -> None:
    points = [(1000 * b.expected_nats / b.proposals, 1000 * b.gained_nats / b.proposals, k, b.proposals)
              for _, k, b in part.calibration if b.proposals >= LEAST]  # fmt: skip
    values = [v for x, y, _, _ in points for v in (x, y)] or [0.0]
    low, high = min(values), max(values)
    room = 0.07 * max(high - low, 1e-9)
    axes.plot([low, high], [low, high], color=INK, linewidth=1.0, zorder=1)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    for x, y, k, n in points:
        colour, mark = Q_STYLE[k]
        axes.scatter(
            x,
            y,
            s=_area(n),
            color=colour,
            marker=mark,
            edgecolors="white",
            linewidths=0.6,
            alpha=0.9,
            zorder=3,
        )
    axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room))
    _say(axes, "gained as expected?", "expected, mnat a proposal", "gained, mnat a proposal")


def _where(axes: Axes, part: MemoryPart) -> None:
    _say(axes, "where gains come from", "tokens of the context found again", "gained, mnat a token of text")
    lengths = sorted({n for n, _, _ in part.lengths})
    if not lengths:
        axes.text(0.5, 0.5, "a bias has no source", transform=axes.transAxes, ha="center", color=MUTED)
        axes.set(xticks=[], yticks=[])
        return
    for near, colour, shift, label in (
        (True, ACCENT, -0.2, "source in the window"),
        (False, BEYOND, 0.2, "beyond it"),
    ):
        gains = {n: b.gained_nats for n, w, b in part.lengths if w is near}
        heights = [1000 * gains.get(n, 0.0) / part.targets for n in lengths]
        axes.bar(
            [i + shift for i in range(len(lengths))], heights, width=0.38, color=colour, label=label, zorder=2
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(lengths)), [str(n) for n in lengths])
    axes.grid(False, axis="x")
    axes.legend(frameon=False, fontsize=8.5)


def _area(proposals: float) -> float:
    return float(np.clip(2.2 * proposals**0.5, 14, 260))


def _say(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel(x, color=INK, fontsize=9.5)
    axes.set_ylabel(y, color=INK, fontsize=9.5)
