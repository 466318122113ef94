"""`pgolf data ...`: published shards from the hub, shards from any text, and the laws of both.

Progress is a bar on a terminal and plain lines in a log. Exit codes are the front door's: 0 done, 1 a law is
broken, 2 a user's mistake.
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pgolf.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Published shards, shards of your own text, and a check of both.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
LINE_SECONDS = 10.0  # between two lines of one activity in a log
STYLES = {"holds": "green", "broken": "bold red", "no claim": "dim"}


@app.command()
def fetch(
    variant: Annotated[
        str, typer.Argument(help="sp1024, sp4096, sp8192, sp8192_caseops, or another with --repo.")
    ] = "sp1024",
    out: Annotated[Path | None, typer.Option(help="Where they go; default data/fineweb/VARIANT.")] = None,
    train_shards: Annotated[
        int | None, typer.Option(help="The first N training shards; default 80, or as many as there are.")
    ] = None,
    repo: Annotated[str | None, typer.Option(help="Dataset repository owner/name on the hub.")] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the repository.")] = "main",
    path_prefix: Annotated[
        str | None, typer.Option(help="Folder of the export in the repository; default datasets.")
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(help="Folder of the shards; default PREFIX/datasets/fineweb10B_VARIANT."),
    ] = None,
    tokenizer_path: Annotated[
        str | None, typer.Option(help="The .model in the repository; default what its manifest says.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="Address of another hub or a mirror.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch published FineWeb shards; run it again to go on after an interruption.

    Example: `pgolf data fetch sp8192 --train-shards 10`
    """
    from pgolf.data.directory import TOKENIZER_FILE
    from pgolf.data.fetch import Fetch
    from pgolf.data.fetch import fetch as run
    from pgolf.data.published import ROOT

    asked = Fetch(variant, repo, revision, path_prefix, folder, tokenizer_path, train_shards, endpoint)
    out = out or Path(ROOT) / variant
    with Meter() as meter:
        manifest = run(asked, out, meter)
    _done(manifest, as_json, _next(out, TOKENIZER_FILE, ("*train_*.bin", "*val_*.bin"), None))


@app.command()
def build(
    inputs: Annotated[list[Path], typer.Argument(help="JSON lines, text files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Where the shards go: a new or empty directory.")],
    tokenizer: Annotated[
        str,
        typer.Option(
            help="KIND:VOCABULARY to train one, e.g. sp_bpe:8192, case_ops/sp_bpe:8192; or a .model."
        ),
    ] = "sp_bpe:1024",
    validation_documents: Annotated[int | None, typer.Option(help="Documents held out to score on.")] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="The same as a fraction; default 0.01.")
    ] = None,
    select_documents: Annotated[int, typer.Option(help="Documents held out to rank on as well.")] = 0,
    order: Annotated[
        Literal["hash", "given"],
        typer.Option(help="Sorted by hash, or as the list has them (the first are validation)."),
    ] = "hash",
    text_field: Annotated[str, typer.Option(help="The field of a JSON line that is the text.")] = "text",
    separator: Annotated[str | None, typer.Option(help="What separates documents in a text file.")] = None,
    shard_tokens: Annotated[int, typer.Option(help="Most tokens of one shard.")] = 100_000_000,
    tokenizer_bytes: Annotated[
        int, typer.Option(help="Most bytes of training text to train the tokenizer on.")
    ] = 64_000_000,
    workers: Annotated[int | None, typer.Option(help="Processes that encode; default one a core.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build shards, byte sidecars and a tokenizer from any text.

    Example: `pgolf data build corpus.jsonl.xz --out data/mine --tokenizer sp_bpe:8192 --validation-documents 500`
    """
    from pgolf.data.build import Build
    from pgolf.data.build import build as run
    from pgolf.data.directory import TOKENIZER_FILE
    from pgolf.data.spill import Split

    if validation_documents is None and validation_fraction is None:
        validation_fraction = 0.01
    split = Split(validation_documents, validation_fraction, select_documents, order)
    more = {} if workers is None else {"workers": workers}
    asked = Build(
        inputs, _tokenizer(tokenizer), split, text_field, separator, shard_tokens, tokenizer_bytes, **more
    )
    with Meter() as meter:
        manifest = run(asked, out, meter)
    train_tokens = manifest["splits"]["train"]["tokens"]
    globs = ("train_*.bin", "validation_*.bin")
    _done(manifest, as_json, _next(out, TOKENIZER_FILE, globs, train_tokens))


@app.command()
def check(
    directory: Annotated[Path | None, typer.Argument(help="A directory of shards and their .model.")] = None,
    train: Annotated[str | None, typer.Option(help="Glob of the training shards.")] = None,
    validation: Annotated[str | None, typer.Option(help="Glob of the validation shards.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="The .model that they were written with.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every law of a set of shards; exit code 1 if one is broken.

    Example: `pgolf data check data/fineweb/sp8192`
    """
    from pgolf.data.check import check as run
    from pgolf.data.check import verdict
    from pgolf.data.shard_files import Shards

    if directory is not None and (train is None and validation is None):
        shards = Shards.of_directory(directory, tokenizer)
    elif directory is None and train is not None and validation is not None and tokenizer is not None:
        shards = Shards.of_globs(train, validation, tokenizer)
    else:
        raise ConfigError("a check is of a directory, or of --train, --validation and --tokenizer together",
                          " ".join(sys.argv[1:]), "pgolf data check DIR")  # fmt: skip
    with Meter() as meter:
        findings = run(shards, meter)
    answer = verdict(findings)
    if as_json:
        rows = [vars(finding) for finding in findings]
        print(json.dumps({"verdict": answer, "rules": rows}, indent=1))
    else:
        Console().print(_table(findings))
        broken = [f for f in findings if f.verdict == "broken"]
        words = "every rule holds" if not broken else f"{len(broken)} of {len(findings)} rules broken"
        Console(highlight=False).print(words, style=STYLES[answer])
    raise typer.Exit(0 if answer == "holds" else 1)


def _tokenizer(text: str) -> Any:
    """A model file, or a recipe: KIND:VOCABULARY, OUTER/KIND:VOCABULARY, or its settings in YAML."""
    from pgolf.data.tokenizer import AnyTokenizer
    from pgolf.section import Refusal, Section, parse

    class Choice(Section):
        tokenizer: AnyTokenizer

    if text.endswith(".model") or Path(text).is_file():
        return Path(text)
    try:
        settings = yaml.safe_load(text) if text.lstrip().startswith("{") else _nested(text)
    except yaml.YAMLError:
        raise ConfigError(
            "settings of a tokenizer are YAML", text, "{kind: sp_bpe, vocab_size: 8192}"
        ) from None
    parsed = parse(Choice, {"tokenizer": settings})
    if isinstance(parsed, Refusal):
        raise ConfigError(parsed.rule, text, parsed.remedy)
    assert isinstance(parsed, Choice)
    return parsed.tokenizer


def _nested(text: str) -> dict[str, Any]:
    """`case_ops/sp_bpe:8192` as the settings that it is short for."""
    *outer, inner = text.split("/")
    kind, _, size = inner.partition(":")
    settings: dict[str, Any] = {"kind": kind} | ({"vocab_size": size} if size else {})
    for name in reversed(outer):
        settings = {"kind": name, "base": settings}
    return settings


def _next(out: Path, model: str, globs: tuple[str, str], train_tokens: int | None) -> list[str]:
    """The two commands that come after."""
    select = (
        "" if train_tokens is None else f", select: {{select_tokens: {min(1 << 20, train_tokens // 20)}}}"
    )
    data = f"{{kind: shards, train: {out}/{globs[0]}, validation: {out}/{globs[1]}, tokenizer: {out}/{model}{select}}}"
    return [f"pgolf data check {out}", f"pgolf run laptop_baseline '--set=data={data}'"]


def _done(manifest: dict[str, Any], as_json: bool, commands: list[str]) -> None:
    if as_json:
        print(json.dumps(manifest, indent=1))
        return
    console = Console(highlight=False, soft_wrap=True)
    for name, about in manifest.get("splits", {}).items():
        console.print(f"{name}: " + ", ".join(f"{count:,} {what}" for what, count in about.items()))
    for part in ("source", "split", "left_out"):
        told = {k.replace("_", " "): v for k, v in manifest.get(part, {}).items() if v not in (None, 0)}
        if told:
            console.print(
                f"{part.replace('_', ' ')}: " + ", ".join(f"{k} {v}" for k, v in told.items()), markup=False
            )
    size = sum(about["bytes"] for about in manifest["files"].values())
    console.print(f"{len(manifest['files'])} files, {size:,} bytes")
    for command in commands:
        console.print(f"  {command}", style="dim", markup=False)


def _table(findings: list[Any]) -> Any:
    from rich.table import Table

    table = Table("verdict", "rule", "evidence", "way out", box=None, pad_edge=False)
    for f in findings:
        table.add_row(
            f"[{STYLES[f.verdict]}]{f.verdict}[/]", f.rule, f.evidence.replace("[", r"\["), f.remedy
        )
    return table


class Meter:
    """The watch of a data command: a bar for each activity, or in a log a line now and then."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=self.console, transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}  # when an activity was last spoken of; infinity once it is over
        self._began = time.monotonic()

    def __enter__(self) -> "Meter":
        if self.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self._bars.stop()

    def __call__(self, activity: str, done: int, total: int) -> None:
        said = f"{done:,}" + (f" of {total:,}" if total else "")
        if self.console.is_terminal:
            if activity not in self._tasks:
                self._tasks[activity] = self._bars.add_task(activity, said=said)
            self._bars.update(self._tasks[activity], completed=done, total=total or None, said=said)
            return
        now, over = time.monotonic(), bool(total) and done >= total
        if over or now - self._said.get(activity, float("-inf")) >= LINE_SECONDS:
            if self._said.get(activity) != float("inf"):
                self.console.print(
                    f"{now - self._began:7.1f} s  {activity}  {said}", soft_wrap=True, markup=False
                )
            self._said[activity] = float("inf") if over else now
