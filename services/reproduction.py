"""Run a trial again from its stored config, and say whether the same thing came out.

The same means the artifact's SHA-256 and the bpb as stored, to the last bit: with a step budget on the
same machine and packages nothing in a trial may differ. It runs in a fresh store inside the old one, so
that nothing comes from a cache by accident; `from_stage` links in what lies upstream of that stage, and
the answer then speaks of that stage and those after it only.

Where the two differ, the reasons are read off the two provenances: other packages, other hardware, another
number of threads (float sums depend on it), other sources, or a budget in seconds, which no two runs
spend alike. They are reported, not forgiven: `agree` is only about the bytes and the score.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgolf.errors import StoreError
from pgolf.formats.result import Result
from pgolf.pipeline import run_trial
from pgolf.run import RunConfig, parse_config
from pgolf.runtime import Runtime
from pgolf.stage import Store, link_or_copy
from services.wording import ABSENT, bits, seconds, whole

FromStage = Literal["train", "quantize", "pack", "evaluate"]
TrialRunner = Callable[[RunConfig, Store, Runtime], Result | None]

DATA = ("corpus", "tokenize", "shards")
UPSTREAM: dict[str, tuple[str, ...]] = {
    "train": DATA,
    "quantize": (*DATA, "train", "prequant", "calibrate"),
    "pack": (*DATA, "train", "prequant", "calibrate", "quantize"),
    "evaluate": (*DATA, "train", "prequant", "calibrate", "quantize", "bundle", "pack"),
}
NOT_APPLIED = {
    "gate": "the recorded trial was killed at a gate of its search, which stands here with no other trials",
    "certificate": "the recorded trial failed its certificate, which is not part of a reproduction",
}


@dataclass(frozen=True)
class Reproduction:
    """Two results of one config, and whether they are the same."""

    original: Result
    again: Result
    same_artifact: bool
    same_bpb: bool
    reasons: tuple[str, ...]  # what may make them differ, as far as it is known
    reused: tuple[str, ...]  # stages taken from the original

    @property
    def agree(self) -> bool:
        return self.same_artifact and self.same_bpb and self.original.status == self.again.status


def reproduce(
    result: Result,
    store: Store,
    runtime: Runtime,
    from_stage: FromStage | None = None,
    trial_runner: TrialRunner = run_trial,
) -> Reproduction | None:
    """Run `result`'s config again in a fresh store. On ranks other than 0 the answer is None.

    Raises:
        ConfigError: if the stored config is not one of this version of pgolf.
        StoreError: if a stage that `from_stage` builds on is no longer in the store.
    """
    config = parse_config(result.config)
    with store.workspace() as work:
        fresh = Store(Path(str(runtime.agree(work))) / "store")
        reused = _link_upstream(result, store, fresh, from_stage) if runtime.leads else ()
        again = trial_runner(config, fresh, runtime)
    if again is None:
        return None
    return compare(result, again, reused)


def compare(original: Result, again: Result, reused: tuple[str, ...] = ()) -> Reproduction:
    """What is the same of two results of one config, and what may explain the rest."""
    return Reproduction(
        original,
        again,
        same_artifact=original.artifact_sha256 == again.artifact_sha256,
        same_bpb=original.bpb == again.bpb,
        reasons=tuple(_reasons(original, again, reused)),
        reused=reused,
    )


def _link_upstream(
    result: Result, store: Store, fresh: Store, from_stage: FromStage | None
) -> tuple[str, ...]:
    linked = [name for name in UPSTREAM.get(from_stage or "", ()) if name in result.stages]
    for name in linked:
        key = result.stages[name].key
        found = store.find(name, key)
        if found is None:
            rule = f"--from {from_stage} starts from the stored {name}, and it is gone"
            raise StoreError(rule, f"{name}/{key}", f"`pgolf reproduce` {_earlier(name)}")
        for file in found.path.rglob("*"):
            if file.is_file():
                target = fresh.directory / name / key / file.relative_to(found.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(file, target)
    return tuple(linked)


def _earlier(missing: str) -> str:
    usable = [stage for stage, needs in UPSTREAM.items() if missing not in needs]
    return f"--from {usable[-1]}, or without --from" if usable else "without --from"


def _reasons(original: Result, again: Result, reused: tuple[str, ...]) -> list[str]:
    out = []
    if original.config_digest != again.config_digest:
        out.append("the stored config now means something else: a default or a setting has changed since")
    if _budget_kind(original) == "seconds":
        out.append("trained for seconds, not steps: no two runs do the same number of steps")
    out += [NOT_APPLIED[o.reason] for o in original.infeasible if o.reason in NOT_APPLIED]
    out += [f"{name} was made again although it was linked: its meaning has changed since" for name in reused
            if name in again.stages and not again.stages[name].cached]  # fmt: skip
    then, now = original.provenance, again.provenance
    for what, at in (("packages", "packages"), ("hardware", "hardware"), ("data", "data digests")):
        out += _differing(then.get(what, {}), now.get(what, {}), at)
    out += _differing(
        {name: then.get(name) for name in ("python", "ranks", "threads", "commit")},
        {name: now.get(name) for name in ("python", "ranks", "threads", "commit")},
        "",
    )
    if then.get("dirty") or now.get("dirty"):
        out.append("sources with uncommitted changes: the commit does not say what ran")
    return out


def _differing(then: Mapping[str, Any], now: Mapping[str, Any], what: str) -> list[str]:
    return [
        f"{what} {name}: {then.get(name, ABSENT)} then, {now.get(name, ABSENT)} now".strip()
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _budget_kind(result: Result) -> str:
    budget = result.config.get("train", {}).get("budget", {})
    return str(budget.get("kind", "")) if isinstance(budget, Mapping) else ""


# ------------------------------------------------------------------------------------- for people


def render(reproduction: Reproduction) -> RenderableType:
    """Both tuples side by side, and the verdict."""
    a, b = reproduction.original, reproduction.again
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading, justify in (("", "left"), ("recorded", "right"), ("again", "right"), ("", "left")):
        grid.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for name, values, same in (
        ("status", (a.status, b.status), a.status == b.status),
        ("bpb", (_exact(a.bpb), _exact(b.bpb)), reproduction.same_bpb),
        (
            "artifact bytes",
            (whole(a.artifact_bytes), whole(b.artifact_bytes)),
            a.artifact_bytes == b.artifact_bytes,
        ),
        (
            "artifact SHA-256",
            (_short(a.artifact_sha256), _short(b.artifact_sha256)),
            reproduction.same_artifact,
        ),
        ("eval seconds", (seconds(a.eval_seconds), seconds(b.eval_seconds)), None),
        ("train seconds", (seconds(a.train_seconds), seconds(b.train_seconds)), None),
    ):
        mark = Text("") if same is None else Text("same", "green") if same else Text("differs", "bold red")
        grid.add_row(name, *values, mark)
    verdict = (
        Text("They agree.", "bold green") if reproduction.agree else Text("They do not agree.", "bold red")
    )
    lines: list[RenderableType] = [grid, verdict]
    if reproduction.reused:
        lines.append(Text("taken from the store, not run again: " + ", ".join(reproduction.reused), "dim"))
    if reproduction.reasons and not reproduction.agree:
        lines += [Text("What differs between the two runs:"), *[Text(f"  {r}") for r in reproduction.reasons]]
    return Group(*lines)


def _exact(bpb: float | None) -> str:
    return ABSENT if bpb is None else bits(bpb) if bpb == round(bpb, 4) else f"{bpb:.12f}"


def _short(sha256: str | None) -> str:
    return ABSENT if sha256 is None else sha256[:16]
