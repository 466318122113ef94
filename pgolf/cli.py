"""The front door: `pgolf ...`. The only file of this package that may import the other three, lazily.

Exit codes: 0 did what was asked, 1 the answer is no (a reproduction that differs, a certificate that
fails, a trial that is infeasible), 2 a user's mistake, in three lines: rule, value, way out.
"""

import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from pgolf.cli_data import app as data_app
from pgolf.errors import ConfigError, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Search for the best deployed tiny language model. Begin with `pgolf search laptop`.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

app.add_typer(data_app, name="data")

StoreOption = Annotated[str, typer.Option("--store", help="Directory or fsspec URL of stages and records.")]
TrackingOption = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow server; default: mlflow.db in the store.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
RunArgument = Annotated[
    str, typer.Argument(help="A run id, a name, a unique beginning of either, `#RANK`, or a result.json.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change one setting: path=value. May be repeated.")
]


def main() -> None:
    """The installed command: runs the app and turns user mistakes into three lines and exit code 2."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], prog_name="pgolf", standalone_mode=False))
    except UserError as error:
        print(f"pgolf: {error}", file=sys.stderr)
        sys.exit(2)
    except USAGE as error:
        if not error.format_message():  # type: ignore[attr-defined]
            sys.exit(0)  # a group without a command has shown its help
        print(f"pgolf: {_usage(error)}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"pgolf: the disk has room for what is written\n  given: {error.filename or error}\n"
              "  way out: free some space and run the same command again; finished work is kept",
              file=sys.stderr)  # fmt: skip
        sys.exit(2)


RECIPES_WIDTH = 140  # columns below which a recipe's numbers would be cut; a pipe has 80
EVALUATION_WIDTH = 110  # the same of an evaluation report
REPORT_WIDTH = 180  # the same of a quantize report; it takes about 130
FULL = (28, 122)  # ENOSPC, EDQUOT
USAGE: type[Exception] = typer.BadParameter.__bases__[0]  # what the parser of the command line raises


def _usage(error: Any) -> ConfigError:
    """The parser's complaint in the form of every other: rule, value, way out."""
    asked = f"`{error.ctx.command_path} --help`" if error.ctx else "`pgolf --help`"
    return ConfigError(error.format_message(), shlex.join(["pgolf", *sys.argv[1:]]), f"see {asked}")


def _config(name: str, settings: list[str] | None) -> Any:
    """A recipe by name or a file, with settings applied; nothing is written."""
    from pgolf.recipes import RECIPES, recipe
    from pgolf.run import read_config, with_settings

    data = recipe(name) if name in RECIPES or not _looks_like_a_file(name) else read_config(Path(name))
    return with_settings(data, settings or [])


def _looks_like_a_file(name: str) -> bool:
    return Path(name).suffix in (".yaml", ".yml", ".json") or os.sep in name or Path(name).is_file()


def _runtime(gang: Any, report: Any) -> Any:
    """This process's rank in the gang that the config asks for, or an error that says how to start it."""
    import torch

    from pgolf.runtime import Runtime

    runtime = Runtime.local(gang, report)
    if gang.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("rules.gang.device=cuda needs an NVIDIA GPU, and this machine shows none", "cuda",
                          "--set rules.gang.device=cpu, or run it on a machine with GPUs")  # fmt: skip
    if runtime.world_size != gang.ranks:
        again = f"torchrun --nproc-per-node {gang.ranks} -m pgolf {shlex.join(sys.argv[1:])}"
        raise ConfigError(f"this config's gang has {gang.ranks} ranks", f"{runtime.world_size} process(es)",
                          f"start it with: {again}")  # fmt: skip
    return runtime


class _Lines:
    """Progress of one trial as plain lines: a tenth of the training at a time, then every stage."""

    def __init__(self) -> None:
        self.console, self.next, self.began = Console(stderr=True, highlight=False), 0.0, time.monotonic()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        if "train_loss" in metrics and (metrics["progress"] >= self.next or "val_bpb" in metrics):
            self.next = metrics["progress"] + 0.1
            probe = f"  val_bpb {metrics['val_bpb']:.4f}" if "val_bpb" in metrics else ""
            self._say(
                f"train {metrics['progress']:>4.0%}  step {step}  loss {metrics['train_loss']:.4f}{probe}"
            )
        for name, seconds in metrics.items():
            if name.startswith("stage_done/"):
                self._say(f"{name.partition('/')[2]} done ({seconds:.1f} s)")

    def _say(self, text: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.began:7.1f} s[/dim]  {text}", soft_wrap=True)


@app.command()
def run(
    config: Annotated[str, typer.Argument(help="A YAML or JSON file, or a recipe's name.")],
    settings: SetOption = None,
    store: StoreOption = "store",
    out: Annotated[Path | None, typer.Option(help="Where result.json goes; default runs/<name>.")] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Also score once on the validation split, and certify.")
    ] = False,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one trial, whole: train, quantize, pack, reload in a fresh process, score.

    Example: `pgolf run laptop_baseline --set train.budget.steps=200 --out runs/mine`
    """
    from pgolf.pipeline import attachments, run_trial
    from pgolf.pipeline import validate as validated
    from pgolf.run import to_yaml
    from pgolf.stage import Store

    chosen = _config(config, settings)
    lines = _Lines()
    recorder = None

    def report(step: int, metrics: Mapping[str, float]) -> None:
        lines(step, metrics)
        if recorder is not None:
            recorder.trial_progress(number, step, metrics)

    chosen.data.check()  # before the gang: data is missing on any machine, and the longest to come by
    runtime = _runtime(chosen.rules.gang, report)
    place, number = Store(store), 0
    if runtime.leads:
        from services.leaderboard import SINGLE
        from services.tracking import Recorder

        recorder = Recorder.open(
            round_name=SINGLE, store_dir=place.directory, tracking_uri=tracking_uri, rules=chosen.rules
        )
        number = recorder.next_number
        recorder.trial_started(number, chosen, {})
    done = False
    try:
        with runtime.joined():
            result = run_trial(chosen, place, runtime)
            if validate and (passed := runtime.agree(result if result and result.status == "ok" else None)):
                result = validated(passed, place, runtime)
        if recorder is None or result is None:
            return
        recorder.trial_finished(number, result, attachments=attachments(result, place))
        done = True
    finally:
        if recorder is not None:
            if not done:
                recorder.trial_lost(number, "the process ended before the trial did")
            recorder.finish()
    where = out or Path("runs") / f"{result.name}-seed{result.seed}"
    result.write(where / "result.json")
    (where / "config.yaml").write_text(to_yaml(chosen))
    if as_json:
        print(json.dumps(result.plain(), indent=1, sort_keys=True))
    else:
        from services.cards import card

        Console().print(card(result))
        Console(highlight=False).print(f"result: {where / 'result.json'}", soft_wrap=True)
    raise typer.Exit(0 if result.status == "ok" else 1)


@app.command()
def search(
    round_name: Annotated[str, typer.Argument(metavar="ROUND", help="A module under search_spaces/rounds.")],
    trials: Annotated[int | None, typer.Option(help="Trials of the whole study.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="Trials at a time.")] = None,
    gpu_hours: Annotated[float | None, typer.Option(help="Stop asking before this is overspent.")] = None,
    usd: Annotated[float | None, typer.Option(help="The same in dollars, at the profile's price.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A running cluster; default: start one here.")
    ] = None,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    study_storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL; default: study.db in the store.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a search that was stopped.")] = False,
    front: Annotated[
        bool,
        typer.Option("--front", help="Search the front of (bpb, bytes, seconds) instead of bpb under caps."),
    ] = False,
) -> None:
    """Search a round: Ray Tune drives Optuna over whole trials, ranked by what would ship.

    Example: `pgolf search laptop --trials 14 --store store`
    """
    with Console(stderr=True).status("loading"):  # Ray, Optuna and MLflow take seconds
        from cluster.closing import closing_screen
        from cluster.driver import search as drive
    from cluster.progress import Progress
    from pgolf.stage import Store
    from search_spaces.replay import replay
    from search_spaces.rounds import load

    chosen = load(round_name)
    if ray_address is None and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:  # trials run where we are
        for params in chosen.warm_starts.values():
            replay(chosen.space, params).data.check()
    place = Store(store)
    with Progress() as progress:
        outcome = drive(
            chosen, store=place, trials=trials, max_concurrent=max_concurrent, gpu_hours=gpu_hours, usd=usd,
            ray_address=ray_address, tracking_uri=tracking_uri, study_storage=study_storage,
            resume=resume, front=front, say=progress,
        )  # fmt: skip
    options = {"--store": store if store != "store" else None, "--tracking-uri": tracking_uri,
               "--study-storage": study_storage, "--ray-address": ray_address}  # fmt: skip
    closing_screen(Console(), outcome, chosen.rules, place, options, front=front)
    if outcome.stopped_by == "interrupt":
        raise typer.Exit(130)
    raise typer.Exit(0 if outcome.best is not None and not outcome.unscored else 1)


@app.command()
def submit(
    round_name: Annotated[str, typer.Argument(metavar="ROUND", help="A module under search_spaces/rounds.")],
    address: Annotated[str, typer.Option(help="The cluster's dashboard, e.g. http://127.0.0.1:8265.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="After `--`: options for `pgolf search` on the cluster.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once the job is accepted.")] = False,
) -> None:
    """Submit a search to a Ray cluster and follow its log; the same as `ray job submit`.

    Example: `pgolf submit laptop --address http://127.0.0.1:8265 -- --trials 50 --store s3://bucket/pgolf`
    """
    from cluster.jobs import submit as submit_job
    from search_spaces.rounds import load

    load(round_name)
    raise typer.Exit(submit_job(round_name, address, arguments or [], wait=not no_wait))


@app.command()
def board(
    round_name: Annotated[str | None, typer.Argument(metavar="[ROUND]", help="Only this round.")] = None,
    by: Annotated[
        Literal["deployed", "pareto"], typer.Option(help="By bpb, or the front of the tuple first.")
    ] = "deployed",
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """The leaderboard. Ranks are on the select split; finalists also show validation.

    Example: `pgolf board laptop --by pareto`
    """
    from pgolf.stage import Store
    from services.board import render
    from services.leaderboard import read_board

    rows = read_board(Store(store).directory, tracking_uri, round_name, by)
    if as_json:
        print(json.dumps([row.json_ready() for row in rows], indent=1))
    else:
        render(rows, Console(), None)


@app.command()
def recipes(
    gpu: Annotated[str | None, typer.Option(help="Predict times on this GPU, e.g. H200.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The recipes: names that `pgolf run` takes, with what they are predicted to cost and what was published.

    Times are per step of the whole gang, with everything switched on. Example: `pgolf recipes --gpu H200`
    """
    from pgolf.estimate import estimate
    from pgolf.recipes import RECIPES
    from pgolf.records import PUBLISHED

    rows: list[dict[str, Any]] = []
    for name, make in RECIPES.items():
        config = make()
        rows.append({
            "name": name, "about": " ".join((make.__doc__ or "").split()),
            **estimate(config, gpu).plain(), "published": PUBLISHED.get(name), "config": config.plain(),
        })  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("recipe", "params", "predicted bytes", "ms/step", "published: bpb", "bytes", "eval s"):
        table.add_column(heading, justify="left" if heading == "recipe" else "right", no_wrap=True)
    table.add_column("about", overflow="fold")
    for row in rows:
        ms, published = row["predicted_ms_per_step"], row["published"] or {}
        table.add_row(
            row["name"], f"{row['params']:,}", f"{row['predicted_artifact_bytes']:,}",
            "" if ms is None else f"{ms:.1f}", f"{published['bpb']:.5f}" if published else "",
            *(f"{published[k]:,.0f}" if k in published else "" for k in ("artifact_bytes", "eval_seconds")),
            row["about"],
        )  # fmt: skip
    console = Console()
    console.width = max(console.width, RECIPES_WIDTH)
    console.print(table)


@app.command()
def ui(
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """The MLflow UI on the store; sort the runs table by `rank` for the leaderboard.

    Example: `pgolf ui --port 5001`
    """
    from pgolf.stage import Store
    from services.ui import serve

    serve(Store(store).directory, tracking_uri, port=port, host=host)


@app.command()
def show(
    run_: RunArgument,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """One trial's card: its tuple against the caps, its stages, its config, where it came from.

    Example: `pgolf show '#1'`
    """
    from services.cards import card

    result, run_id = _resolved(run_, store, tracking_uri)
    if as_json:
        print(json.dumps(result.plain(), indent=1, sort_keys=True))
    else:
        Console().print(card(result, run_id))


@app.command()
def diff(
    a: RunArgument, b: RunArgument, store: StoreOption = "store", tracking_uri: TrackingOption = None
) -> None:
    """What differs between two trials: settings first, then what they came to.

    Example: `pgolf diff '#1' laptop_baseline`
    """
    from services.cards import difference

    (one, _), (two, _) = _resolved(a, store, tracking_uri), _resolved(b, store, tracking_uri)
    Console().print(difference(one, two))


@app.command("quantize-report")
def quantize_report(
    run_: RunArgument,
    measure: Annotated[
        bool, typer.Option(help="Measure each tensor's loss: a forward pass over the text for each.")
    ] = True,
    sequences: Annotated[
        int, typer.Option(min=2, help="Select-split sequences of the evaluation's context to measure on.")
    ] = 32,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the files; default runs/NAME/quantize-report.")
    ] = None,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where a trial's bits went and what they cost: per tensor bytes, entropy, error, predicted and measured loss.

    Prints the tables and writes report.json, report.md and report.png. Example: `pgolf quantize-report '#1'`
    """
    import torch

    from pgolf.cli_data import Meter
    from pgolf.runtime import Runtime
    from pgolf.stage import Store
    from services import quantize_tables
    from services.quantize_report import quantize_report as made

    result, _ = _resolved(run_, store, tracking_uri)
    where = _report_folder(out, result, "quantize-report")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with Runtime(device).joined(), Meter() as meter:
        report = made(result, Store(store), sequences if measure else None, device, meter)
    _hand_over(report, quantize_tables, where, REPORT_WIDTH, as_json)


def _report_folder(out: Path | None, result: Any, name: str) -> Path:
    """Where a report goes, before it is made. Raises ConfigError if a file lies there."""
    where = out or Path("runs") / f"{result.name}-seed{result.seed}" / name
    if where.exists() and not where.is_dir():
        raise ConfigError("--out is a folder, existing or new", f"{where} is a file", "name another")
    return where


def _hand_over(report: Any, form: Any, where: Path, width: int, as_json: bool) -> None:
    """Write a report's files and print it; `form` is the module that knows how."""
    form.write(report, where)
    if as_json:
        print(json.dumps(report.plain(), indent=1))
        return
    console = Console(highlight=False)
    console.width = max(console.width, width)
    console.print(form.render(report))
    console.print(f"written to {where}: {', '.join(form.FILES)}", soft_wrap=True)


@app.command("evaluation-report")
def evaluation_report(
    run_: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the files; default runs/NAME/evaluation-report.")
    ] = None,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where a trial's bits go, before and after adaptation: by document length, by position; clocks; a paired test.

    Prints the tables and writes report.json and report.png. Example: `pgolf evaluation-report '#1'`
    """
    from pgolf.stage import Store
    from services import evaluation_report as reports

    result, _ = _resolved(run_, store, tracking_uri)
    where = _report_folder(out, result, "evaluation-report")
    report = reports.report_of(result, Store(store))
    _hand_over(report, reports, where, EVALUATION_WIDTH, as_json)


@app.command("memory-report")
def memory_report(
    run_: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the files; default runs/NAME/memory-report.")
    ] = None,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a trial's memories proposed and what that was worth: expected and realized gain, calibration, where from.

    Prints the tables and writes report.json, report.md and report.png. Example: `pgolf memory-report '#1'`
    """
    from pgolf.stage import Store
    from services import memory_report as reports

    result, _ = _resolved(run_, store, tracking_uri)
    where = _report_folder(out, result, "memory-report")
    report = reports.report_of(result, Store(store))
    _hand_over(report, reports, where, REPORT_WIDTH, as_json)


@app.command()
def reproduce(
    run_: RunArgument,
    from_stage: Annotated[
        Literal["train", "quantize", "pack", "evaluate"] | None,
        typer.Option("--from", help="Redo from here; what lies upstream is taken from the store."),
    ] = None,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rerun a trial from its stored config and say whether it comes to the same tuple.

    Example: `pgolf reproduce '#1'`
    """
    from pgolf.run import parse_config
    from pgolf.stage import Store
    from services.reproduction import render
    from services.reproduction import reproduce as again

    result, _ = _resolved(run_, store, tracking_uri)
    runtime = _runtime(parse_config(result.config).rules.gang, _Lines())
    with runtime.joined():
        outcome = again(result, Store(store), runtime, from_stage)
    if outcome is None:  # not the leading rank
        return
    if as_json:
        answer = {
            "agree": outcome.agree, "same_artifact": outcome.same_artifact, "same_bpb": outcome.same_bpb,
            "reasons": outcome.reasons, "reused": outcome.reused,
            "original": outcome.original.plain(), "again": outcome.again.plain(),
        }  # fmt: skip
        print(json.dumps(answer, indent=1))
    else:
        Console().print(render(outcome))
    raise typer.Exit(0 if outcome.agree else 1)


@app.command()
def certify(
    run_: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_FILE",
            help="A run, an artifact.bin, a claim.json of anyone's, or a certificate.json to read.",
        ),
    ],
    config: Annotated[
        str | None,
        typer.Option(
            help="For an artifact: the config whose data and evaluation it is scored with; "
            "default: config.yaml beside it, else laptop_baseline."
        ),
    ] = None,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score an artifact on the validation split and prove the score: the rules, and a lossless round trip.

    The report goes with the run: into MLflow, where its outcome and the ranks follow, or beside a result.json.

    A claim is a JSON file that says what was shipped and reported, and may name a predictor or an evaluator of your
    own (`"predictor": "mine.py:predictor"`), which is tried out here; a submission.json is one already. Of a
    certificate that was kept the digest is compared with what it says, and nothing is examined again.

    Example: `pgolf certify '#1'` or `pgolf certify records/mine/submission.json`
    """
    from pgolf.certify.checks import examine
    from pgolf.certify.claim import is_claim
    from pgolf.certify.dossier import Dossier
    from pgolf.certify.report import is_report, read_report, render, report_of
    from pgolf.certify.stage import CERTIFICATE, READABLE
    from pgolf.certify.trip import of_claim
    from pgolf.pipeline import attachments, certificate_of, certify_artifact, validate
    from pgolf.run import parse_config
    from pgolf.stage import Store

    if is_report(Path(run_)):
        report = read_report(Path(run_))
    elif is_claim(Path(run_)):
        dossier = Dossier.read(Path(run_))
        report = report_of(examine(dossier), claim=run_, **of_claim(Path(run_), dossier))
    elif Path(run_).suffix == ".bin":
        beside = Path(run_).with_name("config.yaml")
        chosen = _config(config or (str(beside) if beside.is_file() else "laptop_baseline"), None)
        runtime = _runtime(chosen.rules.gang.but(ranks=1), _Lines())
        chosen.data.check()
        with runtime.joined():
            report = certify_artifact(Path(run_), chosen, Store(store), runtime)
    else:
        result, run_id = _resolved(run_, store, tracking_uri)
        chosen, place = parse_config(result.config), Store(store)
        runtime = _runtime(chosen.rules.gang.but(ranks=1), _Lines())
        with runtime.joined():
            passed = validate(result, place, runtime)
        assert passed is not None, "one rank, and it leads"
        report, kept = certificate_of(passed, place), attachments(passed, place)
        if run_id is not None:
            from services.tracking import amend

            amend(run_id, passed, kept, chosen.rules, place.directory, tracking_uri)
        elif (folder := Path(run_)).is_dir() or folder.name == "result.json":
            for name in (CERTIFICATE, READABLE):
                shutil.copyfile(kept[name], (folder if folder.is_dir() else folder.parent) / name)
    print(json.dumps(report, indent=1, sort_keys=True)) if as_json else Console().print(render(report))
    raise typer.Exit(0 if report["verdict"] == "holds" else 1)


ArtifactArgument = Annotated[
    str, typer.Argument(metavar="ARTIFACT", help="A run, an artifact.bin, or the folder of an export.")
]
TokenizerOption = Annotated[
    Path | None, typer.Option(help="For an artifact.bin: its tokenizer; default: tokenizer.model beside it.")
]
OutOption = Annotated[
    Path, typer.Option("--out", "-o", help="The file to write; one that is there is replaced.")
]


@app.command()
def compress(
    artifact: ArtifactArgument,
    file: Annotated[Path, typer.Argument(help="Any file, text or not.")],
    out: OutOption,
    config: Annotated[
        str | None,
        typer.Option(
            help="For an artifact.bin: the config to evaluate with; default: config.yaml beside it."
        ),
    ] = None,
    settings: SetOption = None,
    separator: Annotated[
        str | None,
        typer.Option(
            help="What ends a document, e.g. '\\n\\n'; documents are coded side by side, which is faster."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads; decompressing uses as many.")] = 1,
    tokenizer: TokenizerOption = None,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compress a file with an artifact's own predictions, adaptation and memory included.

    It takes as long as the evaluation takes position by position; decompressing takes as long again, and needs the
    same artifact, tokenizer and kind of machine.

    Example: `pgolf compress '#1' notes.txt -o notes.pgolf`
    """
    from pgolf.certify.compressor import Compressor, compress_file

    where = _deployed(artifact, tokenizer, config, settings, store, tracking_uri)
    assert where.mode is not None
    ends = None if separator is None else _separator(separator)
    with _Bytes("compress", file) as said:
        made = compress_file(
            Compressor(where.artifact, where.tokenizer, where.mode, threads), file, out, ends, said
        )
    if as_json:
        print(json.dumps({**vars(made), "bits_per_byte": made.bits_per_byte}))
    else:
        Console(highlight=False).print(
            f"{out}: {made.text_bytes:,} bytes in {made.file_bytes:,}, {made.bits_per_byte:.4f} bits a byte "
            f"({made.file_bytes - made.coded_bytes:,} bytes of them say how to decode the rest)", soft_wrap=True,
        )  # fmt: skip


@app.command()
def decompress(
    artifact: ArtifactArgument,
    file: Annotated[Path, typer.Argument(help="What `pgolf compress` wrote.")],
    out: OutOption,
    tokenizer: TokenizerOption = None,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a compressed file, byte for byte, or nothing: whatever is damaged or does not fit is named.

    Example: `pgolf decompress '#1' notes.pgolf -o notes.txt`
    """
    from pgolf.certify.compressor import decompress_file

    where = _deployed(artifact, tokenizer, None, None, store, tracking_uri, evaluates=False)
    with _Bytes("decompress", file) as said:
        size = decompress_file(where.artifact, where.tokenizer, file, out, said)
    if as_json:
        print(json.dumps({"text_bytes": size}))
    else:
        Console(highlight=False).print(f"{out}: {size:,} bytes, as they were", soft_wrap=True)


@app.command()
def export(
    run_: RunArgument,
    out: Annotated[Path, typer.Option(help="The folder to write: new, or empty.")],
    author: Annotated[str, typer.Option(help="Who submits, for submission.json.")] = "",
    github_id: Annotated[str, typer.Option(help="Their name on GitHub.")] = "",
    track: Annotated[str | None, typer.Option(help="The track; default: by the rules' caps.")] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Run the exported file once and compare its score.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace what lies in the folder.")] = False,
    store: StoreOption = "store",
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a submission folder: the one-file script, the artifact, the log, submission.json, README.

    The script is generated, executed as it is and counted as it lies there. Unless told otherwise it is run once,
    without pgolf, on the select split, and has to come to the score on record, to the last bit.

    Example: `pgolf export '#1' --out records/mine --author "Ada" --github-id ada`
    """
    from pgolf.stage import Store
    from services.mlflow_client import client_to_read
    from services.submission import Author, recorded_curves
    from services.submission import export as exported

    result, run_id = _resolved(run_, store, tracking_uri)
    place = Store(store)
    curves = recorded_curves(client_to_read(place.directory, tracking_uri), run_id) if run_id else None
    done = exported(result, place, out, author=Author(author, github_id), track=track, force=force, check=check,
                    curves=curves)  # fmt: skip
    if as_json:
        answer = {"folder": str(done.folder), "agrees": done.agrees, "recorded_bpb": done.recorded,
                  "scored_bpb": done.scored, "submission": done.summary}  # fmt: skip
        print(json.dumps(answer, indent=1))
    else:
        say = Console(highlight=False).print
        code, model = done.summary["bytes_code"], done.summary["bytes_model_compressed"]
        say(f"{done.folder}: {code:,} bytes of code + {model:,} of model = {code + model:,}", soft_wrap=True)
        if done.scored is None:
            say(f"not run: {done.skipped}", soft_wrap=True)
        else:
            verdict = "the score on record" if done.agrees else f"on record is {done.recorded!r}"
            say(f"run alone it scores {done.scored!r} bits per byte: {verdict}", soft_wrap=True)
    raise typer.Exit(0 if done.agrees else 1)


@app.command()
def doctor(store: StoreOption = "store", as_json: JsonOption = False) -> None:
    """What this machine has and what will be used of it.

    Example: `pgolf doctor --json`
    """
    from pgolf.doctor import examine

    facts = examine(Path(store))
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        Console(highlight=False).print(f"{name:<14} {shown if shown != [] else 'none'}", soft_wrap=True)


def _separator(given: str) -> bytes:
    """A separator with its escapes read. Raises ConfigError if there is none."""
    escapes = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\0": "\0"}
    text = re.sub(r"\\[ntr0]", lambda found: escapes[found[0]], given)
    if not text:
        raise ConfigError("a separator is a text", "''", "leave --separator out: a file is one document")
    return text.encode()


@dataclass(frozen=True)
class _Deployed:
    """The files of an artifact, and how it is evaluated (None where nobody asked)."""

    artifact: Path
    tokenizer: Path
    mode: Any


def _deployed(
    name: str, tokenizer: Path | None, config: str | None, settings: list[str] | None, store: str,
    tracking_uri: str | None, evaluates: bool = True,
) -> _Deployed:  # fmt: skip
    """What an artifact is evaluated with: out of the store for a run, beside it for a file."""
    from pgolf.data.source import TOKENIZER
    from pgolf.formats.blob import ARTIFACT
    from pgolf.pipeline import packed_of, tokens_of
    from pgolf.run import with_settings
    from pgolf.stage import Store

    path = Path(name)
    if path.suffix == ".bin" or path.is_dir():
        file = path / ARTIFACT if path.is_dir() else path
        beside = file.with_name(TOKENIZER)
        if tokenizer is None and not beside.is_file():
            raise ConfigError("an artifact.bin codes with its tokenizer", f"no {TOKENIZER} beside {file}",
                              "--tokenizer FILE")  # fmt: skip
        described = config or str(file.with_name("config.yaml"))
        if evaluates and config is None and not Path(described).is_file():
            raise ConfigError("an artifact.bin is evaluated by a config", f"no config.yaml beside {file}",
                              "--config, the recipe or file it was trained with")  # fmt: skip
        mode = _config(described, settings).evaluate if evaluates else None
        return _Deployed(file, tokenizer or beside, mode)
    result, _ = _resolved(name, store, tracking_uri)
    place = Store(store)
    tokens = tokens_of(result, place)
    artifact = packed_of(result, place).path / ARTIFACT
    if tokenizer is None and tokens is None:
        raise ConfigError(
            "a run codes with its tokenizer", f"{place.root} no longer has it", "--tokenizer FILE"
        )
    mode = with_settings(result.config, settings or []).evaluate if evaluates else None
    return _Deployed(artifact, tokenizer or tokens.path / TOKENIZER, mode)  # type: ignore[union-attr]


class _Bytes:
    """A bar over a file's bytes, where somebody looks at it."""

    def __init__(self, verb: str, file: Path) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self.total = file.stat().st_size if file.is_file() else None
        columns = TextColumn(f"{verb} {file.name}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.progress.add_task(verb, total=self.total)

    def __enter__(self) -> Any:
        self.progress.start()
        return lambda done: self.progress.update(self.task, completed=done)

    def __exit__(self, *failed: object) -> None:
        self.progress.stop()


def _resolved(run_: str, store: str, tracking_uri: str | None) -> tuple[Any, str | None]:
    from pgolf.stage import Store
    from services.runs import resolve

    return resolve(run_, Store(store).directory, tracking_uri)
