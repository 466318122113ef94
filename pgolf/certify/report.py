"""The certificate: every rule's verdict, signed by the digest of all that it says; for people, one line a rule."""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pgolf.certify.verdict import Verdict, convicted
from pgolf.errors import DataError
from pgolf.section import digest_of

TEXT_COLUMNS = 110  # of the readable report
TRIPS = {"round_trip": "were coded in", "round_trip_narrowed": "and, learning after shorter rounds, in"}
STYLES = {True: ("holds", "green"), False: ("FAILS", "bold red"), None: ("n/a", "dim")}


def report_of(verdicts: Iterable[Verdict], **more: Any) -> dict[str, Any]:
    """`{"verdict", "rules": {rule: {"name", "holds", "evidence", ...}}, ..., "digest"}`, plain JSON values.

    Args:
        more: what else the report says: the subject's digests, a round trip. A `broken` list of other failures
            fails the report too.
    """
    found = list(verdicts)
    fails = convicted(found) or bool(more.get("broken"))
    report = {"verdict": "fails" if fails else "holds", "rules": {v.rule: v.plain() for v in found}, **more}
    return {**report, "digest": digest_of(report)}


def is_signed(report: Mapping[str, Any]) -> bool:
    """Whether the digest is that of what the report says."""
    said = {k: v for k, v in report.items() if k != "digest"}
    return bool(report.get("digest") == digest_of(said))


def is_report(file: Path) -> bool:
    """Whether a path is of a certificate, and not of a claim or a result."""
    if file.suffix != ".json" or not file.is_file():
        return False
    try:
        plain = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(plain, dict) and len({"verdict", "rules", "digest"} & plain.keys()) > 1


def read_report(file: Path) -> dict[str, Any]:
    """A certificate that was kept. Raises DataError if it does not say what was signed."""
    remedy = "take it from its run again; in a store, delete its folder and certify again"
    try:
        report = json.loads(file.read_text())
    except ValueError as error:
        raise DataError("a certificate is a JSON file", f"{file}: {error}", remedy) from None
    if not (isinstance(report, dict) and is_signed(report)):
        raise DataError("a certificate's digest is that of what it says", f"{file} was changed", remedy)
    return report


def render(report: Mapping[str, Any]) -> Group:
    """One line a rule, with its evidence; under what fails the way out."""
    holds = report["verdict"] == "holds"
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    for column in ("rule", "verdict", "name"):
        table.add_column(column, no_wrap=True)
    table.add_column("evidence", ratio=1)
    for rule, said in sorted(report["rules"].items(), key=lambda item: (item[0][0], int(item[0][1:]))):
        word, style = STYLES[said["holds"]]
        evidence = Text(said["evidence"], style="" if said["holds"] else style)
        if said.get("remedy"):
            evidence.append(f"\nway out: {said['remedy']}", style="yellow")
        table.add_row(rule, Text(word, style=style), Text(said["name"].replace("_", " ")), evidence)
    lines: list[Any] = [
        Text(f"certificate {report['verdict']}", style="bold green" if holds else "bold red"),
        table,
    ]
    lines += [Text(f"  {broken}", style="bold red") for broken in report.get("broken", ())]
    for name, how in TRIPS.items():
        if (trip := report.get(name)) is not None:
            what = f"{trip['text_bytes']:,.0f} bytes of text" if "text_bytes" in trip else "a sample"
            lines.append(Text(
                f"{what} ({trip['sample_tokens']:,.0f} tokens of {trip['documents']:.0f} document(s)) {how} "
                f"{trip['coded_bytes']:,.0f} bytes; the scorer's bits say {trip['scored_bytes']:,.1f}"
            ))  # fmt: skip
    if report.get("by_lengths"):
        lines.append(
            Text(f"scores depend on lengths that are known before, by {', '.join(report['by_lengths'])}")
        )
    if "validation_bpb" in report:
        lines.append(Text(f"validation {report['validation_bpb']:.4f} bits per byte"))
    if "artifact_sha256" in report:
        lines.append(Text(f"artifact SHA-256 {report['artifact_sha256'][:16]}"))
    lines.append(Text(f"digest {report['digest'][:16]}"))
    return Group(*lines)


def as_text(report: Mapping[str, Any]) -> str:
    """The same lines in a file."""
    console = Console(file=io.StringIO(), width=TEXT_COLUMNS, highlight=False)
    with console.capture() as captured:
        console.print(render(report))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
