"""The certificate for people: one line a law, then the round trip in bytes."""

from typing import Any

from rich.console import Group
from rich.text import Text

LAWS = {
    "score_once": "every target is scored exactly once, from its past",
    "sums_agree": "the score is the ledger's bits over the sidecar's bytes",
    "bytes_are_the_text": "the denominator is the text's own length",
    "future_is_invisible": "no prediction changes with later tokens",
    "documents_are_islands": "no prediction changes with another document",
    "is_a_distribution": "every prediction is a distribution over the vocabulary",
    "round_trip": "another process restores the text from the coded bytes",
}


def render(report: dict[str, Any]) -> Group:
    holds = report["verdict"] == "holds"
    lines = [Text(f"certificate {report['verdict']}", style="bold green" if holds else "bold red")]
    for name, answer in report["checks"].items():
        good = answer == "holds"
        lines.append(Text(f"  {'holds' if good else 'FAILS'}  {name:<22} {LAWS[name] if good else answer}",
                          style="" if good else "red"))  # fmt: skip
    trip = report["round_trip"]
    lines.append(Text(
        f"  {trip['text_bytes']:.0f} bytes of text in {trip['documents']:.0f} document(s) were coded in "
        f"{trip['coded_bytes']:.0f} bytes; the scorer's bits say {trip['scored_bytes']:.1f}"
    ))  # fmt: skip
    lines.append(Text(f"  validation {report['validation_bpb']:.4f} bits per byte; artifact SHA-256 "
                      f"{report['artifact_sha256'][:16]}; digest {report['digest'][:16]}"))  # fmt: skip
    return Group(*lines)
