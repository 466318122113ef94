"""A quantize report in words: tables for the terminal and for Markdown, and the folder it is kept in.

Losses are shown in thousandths of a nat a token (mnat), because that is their size; files hold nats. A column
that no row has anything for is not there: without Fisher statistics nothing was predicted, and `--no-measure`
measured nothing.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.plots import save
from services.quantize_picture import picture, short
from services.quantize_report import SHARED, Divergence, QuantizeReport, TensorReport
from services.wording import ABSENT, piped, whole

FILES = JSON, MARKDOWN, PICTURE = "report.json", "report.md", "report.png"

LESS = ("weights", "of it steps")  # columns that the terminal has no room for: by role, and in the files
WORDS = {"tensor", "role", "kind", "shape"}  # columns that are not numbers
Column = tuple[str, Callable[[TensorReport], str]]


def _number(form: str, value: float | None) -> str:
    return ABSENT if value is None else format(value, form)


def mnats(value: float | None) -> str:
    """Thousandths of a nat, to three digits.

    >>> mnats(0.00041234)
    '0.412'
    """
    return ABSENT if value is None else f"{1000 * value:#.3g}".rstrip(".")


def _measured(m: Divergence | None) -> str:
    if m is None:
        return ABSENT
    return mnats(m.kl_nats) + ("" if m.kl_nats_se is None else f" ±{1000 * m.kl_nats_se:.1g}")


SHAPE: list[Column] = [
    ("role", lambda t: t.role),
    ("kind", lambda t: t.kind),
    ("shape", lambda t: "x".join(map(str, t.shape))),
]
COUNT: list[Column] = [("tensors", lambda t: str(t.tensors))]
NUMBERS: list[Column] = [
    ("weights", lambda t: whole(t.weights)),
    ("bits a weight", lambda t: f"{t.bits_per_weight:.2f}"),
    ("coded bytes", lambda t: whole(t.coded_bytes)),
    ("of it steps", lambda t: whole(t.step_bytes)),
    ("code entropy", lambda t: f"{t.entropy_bits_per_weight:.2f}"),
    ("coded / ideal", lambda t: _number(".3f", t.coded_over_ideal)),
    ("log2 step/dev", lambda t: _number("+.2f", t.log2_step_over_deviation)),
    ("relative squared error", lambda t: _number(".1e", t.relative_squared_error)),
    ("sensi- tivity", lambda t: _number(".1e", t.sensitivity)),
    ("predicted mnat", lambda t: mnats(t.predicted_loss_nats)),
    ("measured mnat", lambda t: _measured(t.measured)),
    ("measured / predicted", lambda t: _number(".2f", t.measured_over_predicted)),
]


def _rows(columns: Sequence[Column], tensors: Sequence[TensorReport]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, without the columns that nothing is known of."""
    cells = [[show(t) for _, show in columns] for t in tensors]
    kept = [i for i in range(len(columns)) if any(row[i] != ABSENT for row in cells)]
    return [columns[i][0] for i in kept], [[row[i] for i in kept] for row in cells]


def _by_tensor(
    report: QuantizeReport, name: Callable[[str], str], less: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    columns = [column for column in (*SHAPE, *NUMBERS) if column[0] not in less]
    return _rows([("tensor", lambda t: name(t.name)), *columns], report.tensors)


def _by_role(report: QuantizeReport) -> tuple[list[str], list[list[str]]]:
    sums = report.roles if len(report.roles) == 1 else [*report.roles, report.whole]
    return _rows([("role", lambda t: t.name), *COUNT, *NUMBERS], sums)


def notes(report: QuantizeReport) -> list[str]:
    """What the numbers are, and what they come to together."""
    s = report.sizes
    out = [
        f"artifact (without code) {whole(s.header + s.codes + s.halves)} bytes: codes {whole(s.codes)}, "
        f"float16 {whole(s.halves)}, header {whole(s.header)}"
    ]
    if not s.separable:
        out.append(f"codec {s.codec} does not code tensor by tensor: coded bytes are {SHARED}")
    if report.deployed is not None and report.measurement is not None:
        m = report.measurement
        line = f"all at once, as deployed: {_measured(report.deployed)} mnat"
        if (ratio := report.deployed_over_predicted) is not None:
            line += f", {ratio:.2f} of the predicted sum {mnats(report.whole.predicted_loss_nats)}"
        out.append(f"{line}; alone they measure {_measured(report.whole.measured)} in sum")
        out.append(f"measured: KL from the float model, mnat a token, on {m.sequences} x {m.context} tokens of "
                   f"the {m.split} split ({m.device}, float32), ± its standard error")  # fmt: skip
    if report.whole.predicted_loss_nats is None:
        out.append(
            "no prediction: calibration took no Fisher statistics (--set calibrate.fisher.tokens=16384)"
        )
    return out


def render(report: QuantizeReport) -> RenderableType:
    """Both tables and the notes, for the terminal."""
    tensors, sums = _table(*_by_tensor(report, short, LESS)), _table(*_by_role(report))
    title = Text(f"{report.run}: {report.quantizer}, packed by {report.sizes.codec}", "bold")
    return Group(title, tensors, sums, *[Text(line) for line in notes(report)])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading.replace("- ", "-\n").replace(" ", "\n"), no_wrap=True,
                         justify="left" if heading in WORDS else "right")  # fmt: skip
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "all" else None)
    return table


def markdown(report: QuantizeReport) -> str:
    """The same as a document, with whole names."""
    parts = [
        f"# Quantize report: {report.run}",
        f"Quantizer `{report.quantizer}`, codec `{report.sizes.codec}`, artifact SHA-256 "
        f"`{report.artifact_sha256}`.",
        f"![Bits and losses by tensor]({PICTURE})",
        "\n".join(f"- {line}" for line in notes(report)),
        "## By role", _piped(*_by_role(report)),
        "## By tensor", _piped(*_by_tensor(report, str)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _piped(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return piped([h.replace("- ", "") for h in headings], rows, WORDS)


def write(report: QuantizeReport, directory: Path) -> None:
    """The report's three files."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / JSON).write_text(json.dumps(report.plain(), indent=1) + "\n")
    (directory / MARKDOWN).write_text(markdown(report))
    save(picture(report), directory / PICTURE)
