"""One trial on a card, and two trials side by side.

The card answers in the order people ask: may it be shipped, against which caps; what was measured; which
stages ran and which came from the store; from what config and on what; how to have it again. Stages
stand in the order of the pipeline, which a stored result, with its sorted names, does not keep.

The difference lists only what differs, and says which of the two is better where better has a meaning.
"""

from collections.abc import Mapping
from typing import Any

import yaml
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pgolf.formats.result import METRICS, Result
from pgolf.rules import Rules
from services.wording import ABSENT, bits, seconds, whole, why

LOWER_IS_BETTER = {
    "prequant_bpb", "quantized_bpb", "adapted_bpb", "bpb", "validation_bpb", "nats_per_token", "model_bytes",
    "code_bytes", "artifact_bytes", "train_seconds", "quantize_seconds", "pack_seconds", "eval_seconds",
    "eval_seconds_strict", "peak_memory_bytes",
}  # fmt: skip
HIGHER_IS_BETTER = {"tokens_per_second"}
STAGES = ("corpus", "tokenize", "shards", "train", "calibrate", "quantize", "bundle", "pack", "prequant", "evaluate",
          "adapt", "validate", "certify")  # fmt: skip


def card(result: Result, run_id: str | None = None) -> RenderableType:
    """One trial, whole, for `pgolf show`."""
    parts: list[RenderableType] = [
        Panel(_verdict(result), title=result.name, title_align="left", border_style=_colour(result)),
        _against_caps(result),
        _heading("Measured"),
        _metrics(result),
        _heading("Stages"),
        _stages(result),
        _heading("Config"),
        Text(yaml.safe_dump(result.config, sort_keys=False, width=100).rstrip()),
        _heading("Made by"),
        _provenance(result),
        _heading("Have it again"),
        Text(_again(result, run_id)),
    ]
    return Group(*parts)


def difference(a: Result, b: Result) -> RenderableType:
    """What differs between two trials, for `pgolf diff`."""
    settings = changed(_with_seed(a), _with_seed(b))
    parts: list[RenderableType] = [_heading("Config")]
    if settings:
        grid = _grid("setting", *_headings(a, b))
        for path, (then, now) in settings:
            grid.add_row(path, _shown(then), _shown(now))
        parts.append(grid)
    else:
        parts.append(Text("the same"))
    return Group(*parts, _heading("Measured"), _side_by_side(a, b))


def changed(a: Mapping[str, Any], b: Mapping[str, Any], at: str = "") -> list[tuple[str, tuple[Any, Any]]]:
    """Dotted paths whose values differ, with both; a section only one side has is shown by its settings.

    >>> changed({"x": {"y": 1, "z": 2}}, {"x": {"y": 3, "z": 2}})
    [('x.y', (1, 3))]
    """
    out: list[tuple[str, tuple[Any, Any]]] = []
    for name in [*a, *(n for n in b if n not in a)]:
        one, two, path = a.get(name), b.get(name), f"{at}{name}"
        sections = [v for v in (one, two) if isinstance(v, Mapping)]
        if sections and all(v is None or isinstance(v, Mapping) for v in (one, two)):
            out += changed(one or {}, two or {}, f"{path}.")
        elif one != two:
            out.append((path, (one, two)))
    return out


# --------------------------------------------------------------------------------------- pieces


def _verdict(result: Result) -> Text:
    if result.status == "ok":
        return Text("feasible: every budget holds", "green")
    if result.status == "failed":
        return Text(f"failed: {result.error or 'no message'}", "red")
    return Text("\n".join(f"not feasible, {why(outcome)}" for outcome in result.infeasible), "yellow")


def _colour(result: Result) -> str:
    return {"ok": "green", "infeasible": "yellow", "failed": "red"}[result.status]


def _against_caps(result: Result) -> Table:
    grid = _grid("deployed tuple", "measured", "cap", "of cap")
    grid.add_row("bits per byte, select split", bits(result.tuple.bpb), "", "")
    grid.add_row("bits per byte, validation split", bits(result.validation_bpb), "", "")
    rules = _rules(result)
    for label, value, cap, form in (
        ("artifact bytes", result.tuple.artifact_bytes, rules and rules.artifact_bytes, whole),
        *((f"evaluation seconds, {split} split", value, rules and rules.eval_seconds, seconds)
          for split, value in _eval_seconds(result).items()),
        ("training seconds", result.train_seconds, rules and rules.train_seconds, seconds),
    ):  # fmt: skip
        limit = float(cap) if isinstance(cap, int | float) else None
        grid.add_row(label, form(value), form(limit), _share(value, limit))
    return grid


def _eval_seconds(result: Result) -> dict[str, float | None]:
    """The evaluation clock of each split that was scored; the tuple's is the longer of them."""
    if "validate" not in result.stages:
        return {"select": result.tuple.eval_seconds}
    measured = {"select": result.scored_stage, "validation": "validate"}
    return {split: result.stages[stage].metrics.get("eval_seconds")
            for split, stage in measured.items() if stage in result.stages}  # fmt: skip


def _rules(result: Result) -> Rules | None:
    rules = result.config.get("rules")
    return Rules.model_validate(rules) if rules else None


def _share(value: float | None, cap: float | None) -> Text:
    if value is None or not cap:
        return Text(ABSENT)
    return Text(f"{100 * value / cap:.1f} %", "bold red" if value > cap else "")


def _metrics(result: Result) -> Table:
    grid = _grid("metric", "value")
    for name, value in result.metrics().items():
        grid.add_row(name, _number(name, value))
    return grid


def _stages(result: Result) -> Table:
    grid = _grid("stage", "seconds", "key", "")
    in_order = [name for name in STAGES if name in result.stages]
    for name in [*in_order, *(other for other in result.stages if other not in STAGES)]:
        stage = result.stages[name]
        grid.add_row(name, seconds(stage.seconds), stage.key, "from the store" if stage.cached else "made")
    return grid


def _provenance(result: Result) -> Text:
    made = result.provenance
    packages = ", ".join(f"{name} {version}" for name, version in made.get("packages", {}).items())
    hardware = ", ".join(f"{k} {v}" for k, v in made.get("hardware", {}).items() if v)
    dirty = " with uncommitted changes" if made.get("dirty") else ""
    lines = {
        "commit": f"{made.get('commit') or ABSENT}{dirty}",
        "python": made.get("python", ABSENT),
        "packages": packages or ABSENT,
        "hardware": hardware or ABSENT,
        "ranks x threads": f"{made.get('ranks', ABSENT)} x {made.get('threads', ABSENT)}",
        "command": made.get("command", ABSENT),
        "config digest": result.config_digest,
        "artifact SHA-256": result.artifact_sha256 or ABSENT,
    }
    return Text("\n".join(f"{name:<17} {value}" for name, value in lines.items()))


def _again(result: Result, run_id: str | None) -> str:
    run = run_id[:12] if run_id else "RESULT.json"
    return f"pgolf reproduce {run}\npgolf certify {run}\npgolf export {run} --out DIR"


def _side_by_side(a: Result, b: Result) -> Table:
    grid = _grid("metric", *_headings(a, b), "change", "better")
    then, now = a.metrics(), b.metrics()
    for name in METRICS:
        if name not in then and name not in now:
            continue
        one, two = then.get(name), now.get(name)
        grid.add_row(
            name, _number(name, one), _number(name, two), _change(name, one, two), better(name, one, two)
        )
    grid.add_row("status", a.status, b.status, "", "")
    return grid


def _change(name: str, one: float | None, two: float | None) -> str:
    if one is None or two is None:
        return ""
    sign = "+" if two > one else "-"
    return "same" if one == two else sign + _number(name, abs(two - one))


def better(name: str, one: float | None, two: float | None) -> str:
    """Which of two measurements is better; empty where neither is, or better has no meaning."""
    if one is None or two is None or one == two or name not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        return ""
    return "first" if (one < two) == (name in LOWER_IS_BETTER) else "second"


def _headings(a: Result, b: Result) -> tuple[str, str]:
    """The two names; with their seeds where the name does not tell them apart."""
    if a.name != b.name:
        return a.name, b.name
    return f"{a.name} seed {a.seed}", f"{b.name} seed {b.seed}"


def _with_seed(result: Result) -> dict[str, Any]:
    return {**result.config, "seed": result.seed}


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ABSENT
    if name.endswith("bpb") or name == "nats_per_token":
        return bits(value)
    return seconds(value) if "seconds" in name else whole(value)


def _shown(value: Any) -> str:
    return "off" if value is None else str(value)


def _heading(words: str) -> Text:
    return Text(f"\n{words}", "bold")


def _grid(*headings: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        grid.add_column(heading, justify="left" if index in (0, 4) else "right", overflow="fold")
    return grid
