"""The picture of a quantize report: where bits went, what they cost in loss, and whether that was foreseen.

Tensors are rows in the network's order, so that names read level and two panels share them: bits per weight as
bars with a tick at the codes' order-0 entropy, and on a log scale the loss each tensor causes, predicted (ring)
and measured (dot, with its standard error). Beside them predicted against measured; on the diagonal the
statistics told the truth. Roles differ in colour and in mark, for eyes that tell colours apart badly.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from services.plots import INK, MUTED, plain
from services.quantize_report import QuantizeReport, TensorReport
from services.wording import whole

ROLE_STYLE = {  # Okabe and Ito's palette
    "embedding": ("#0072B2", "s"),
    "attention": ("#E69F00", "o"),
    "mlp": ("#009E73", "D"),
    "table": ("#CC79A7", "P"),
    "projection": ("#56B4E9", "^"),
    "gate": ("#D55E00", "v"),
}
ROW_INCHES, LEAST_INCHES, MARGIN_INCHES = 0.175, 3.6, 1.75
BARS_INCHES, LOSS_INCHES, SCATTER_INCHES, NAMES_INCHES = 2.7, 3.4, 4.2, 1.5


def short(name: str) -> str:
    """A parameter's name without what all have in common.

    >>> short("blocks.3.attention.q.weight")
    '3.attention.q'
    """
    return name.removesuffix(".weight").removeprefix("blocks.")


def picture(report: QuantizeReport) -> Figure:
    """Bars, losses where there are any, and the scatter where there are both kinds."""
    tensors = report.tensors
    predicted = any(t.predicted_loss_nats is not None for t in tensors)
    measured = any(t.measured is not None for t in tensors)
    widths = [
        BARS_INCHES,
        *[LOSS_INCHES] * (predicted or measured),
        *[SCATTER_INCHES] * (predicted and measured),
    ]
    height = max(ROW_INCHES * len(tensors), LEAST_INCHES) + MARGIN_INCHES
    figure = Figure(figsize=(sum(widths) + NAMES_INCHES, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    panels = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    for axes in panels:
        plain(axes)
    _bars(panels[0], tensors)
    if len(panels) > 1:
        _losses(panels[1], tensors)
    if len(panels) > 2:
        _scatter(panels[2], tensors)
    figure.suptitle(_headline(report), x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    figure.legend(handles=_legend(tensors, predicted, measured), loc="outside lower center", frameon=False,
                  fontsize=9, ncols=9 if len(panels) > 2 else 5)  # fmt: skip
    return figure


def _headline(report: QuantizeReport) -> str:
    w = report.whole
    words = [f"{report.run}: {w.bits_per_weight:.2f} bits a weight, {whole(w.coded_bytes)} coded bytes"]
    if report.deployed is not None:
        words.append(f"KL {1000 * report.deployed.kl_nats:.3g} mnat a token as deployed")
    if w.predicted_loss_nats is not None:
        words.append(f"{1000 * w.predicted_loss_nats:.3g} predicted")
    return ", ".join(words)


def _style(t: TensorReport) -> tuple[str, str]:
    return ROLE_STYLE.get(t.role, (MUTED, "X"))


def _bars(axes: Axes, tensors: Sequence[TensorReport]) -> None:
    rows = range(len(tensors))
    axes.barh(rows, [t.bits_per_weight for t in tensors], height=0.72, color=[_style(t)[0] for t in tensors])
    axes.scatter([t.entropy_bits_per_weight for t in tensors], rows, marker="|", s=60, color=INK, linewidths=1.4,
                 zorder=3)  # fmt: skip
    axes.set_yticks(rows, [short(t.name) for t in tensors], fontsize=8)
    axes.grid(False, axis="y")
    axes.set_ylim(len(tensors) - 0.4, -0.6)
    axes.set_xlim(left=0)
    _say(axes, "Bits", "bits a weight, steps included")


def _losses(axes: Axes, tensors: Sequence[TensorReport]) -> None:
    for row, t in enumerate(tensors):
        colour, mark = _style(t)
        found = [v for v in (_mnats(t.predicted_loss_nats), _kl(t)) if v is not None]
        if len(found) == 2:
            axes.plot(found, [row, row], color=colour, linewidth=1.2, alpha=0.5, zorder=2)
        if (p := _mnats(t.predicted_loss_nats)) is not None:
            axes.plot(p, row, marker=mark, markersize=6, markerfacecolor="white", markeredgecolor=colour,
                      markeredgewidth=1.3, zorder=3)  # fmt: skip
        if (kl := _kl(t)) is not None:
            axes.errorbar(kl, row, xerr=_se(t, kl), marker=mark, markersize=5, color=colour, ecolor=INK,
                          elinewidth=0.9, zorder=4)  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.autoscale_view()
    _log(axes, "x")
    axes.set_yticks(range(len(tensors)), [])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(tensors) - 0.4, -0.6)
    _say(axes, "Loss", "of this tensor alone, mnat a token")


def _scatter(axes: Axes, tensors: Sequence[TensorReport]) -> None:
    points = [(t, p, kl) for t in tensors
              if (p := _mnats(t.predicted_loss_nats)) is not None and (kl := _kl(t)) is not None]  # fmt: skip
    for t, p, kl in points:
        colour, mark = _style(t)
        axes.errorbar(p, kl, yerr=_se(t, kl), marker=mark, markersize=6, color=colour, ecolor=MUTED,
                      elinewidth=0.9, markeredgecolor="white", markeredgewidth=0.6, zorder=3)  # fmt: skip
    values = [v for _, p, kl in points for v in (p, kl)] or [1.0]
    low, high = min(values) / 1.6, max(values) * 1.6
    axes.plot([low, high], [low, high], color=INK, linewidth=1.0, zorder=1)
    for factor in (0.5, 2.0):
        axes.plot([low, high], [low * factor, high * factor], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)),
                  zorder=1)  # fmt: skip
    axes.set(xlim=(low, high), ylim=(low, high))
    _log(axes, "x")
    _log(axes, "y")
    axes.set_box_aspect(1)
    axes.set_anchor("N")
    axes.set_ylabel("measured, mnat a token", color=INK, fontsize=9.5)
    _say(axes, "Predicted against measured", "predicted, mnat a token (dashed: twice, half)")


def _say(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel(label, color=INK, fontsize=9.5)


def _log(axes: Axes, axis: str) -> None:
    scale = axes.set_xscale if axis == "x" else axes.set_yscale
    scale("log")
    ticks = axes.xaxis if axis == "x" else axes.yaxis
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=8))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_formatter(NullFormatter())


def _mnats(value: float | None) -> float | None:
    """A loss that a log scale can show."""
    return 1000 * value if value is not None and value > 0 else None


def _kl(t: TensorReport) -> float | None:
    return None if t.measured is None else _mnats(t.measured.kl_nats)


def _se(t: TensorReport, kl: float) -> list[list[float]] | None:
    """The standard error below and above, cut off where a log scale ends."""
    if t.measured is None or t.measured.kl_nats_se is None:
        return None
    se = 1000 * t.measured.kl_nats_se
    return [[min(se, 0.9 * kl)], [se]]


def _legend(tensors: Sequence[TensorReport], predicted: bool, measured: bool) -> list[Patch | Line2D]:
    marks = predicted or measured
    out: list[Patch | Line2D] = []
    for role in dict.fromkeys(t.role for t in tensors):
        colour, mark = ROLE_STYLE.get(role, (MUTED, "X"))
        out.append(Line2D([], [], marker=mark, color=colour, linestyle="", label=role) if marks
                   else Patch(color=colour, label=role))  # fmt: skip
    out.append(
        Line2D([], [], marker="|", markersize=9, color=INK, linestyle="", label="order-0 entropy of codes")
    )
    if predicted:
        out.append(Line2D([], [], marker="o", markerfacecolor="white", markeredgecolor=INK, linestyle="",
                          label="predicted"))  # fmt: skip
    if measured:
        out.append(Line2D([], [], marker="o", color=INK, linestyle="", label="measured ± standard error"))
    return out
