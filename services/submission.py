"""The submission folder of one trial: the file that is executed, the artifact, and what was measured.

    train_gpt.py         the bundle (pgolf.pack.bundle): what `bytes_code` counts is this file as it lies there
    artifact.bin         the weights
    tokenizer.model      beside the two, not counted
    submission.json      the keys that the competition's records use
    README.md            the tuple, the command that scores, where the techniques come from
    train_seed<N>.log    the trial in the log lines that readers of records know
    result.json config.yaml

What was not measured is null or left out. The folder appears whole or not at all; then the exported file is run
once, alone, on the select split, and has to come to the bits per byte on record, to the last bit.
"""

import datetime
import json
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgolf.data.source import TOKENIZER
from pgolf.errors import UserError
from pgolf.formats.blob import ARTIFACT
from pgolf.formats.result import Result
from pgolf.formats.shards import shards_of, sidecar_of
from pgolf.fresh import run_alone
from pgolf.pack.bundle import BUNDLE
from pgolf.pipeline import bundle_of, packed_of, tokens_of
from pgolf.run import RunConfig, parse_config, to_yaml
from pgolf.stage import Artifact, Store
from services.wording import bits, seconds, whole

RECORD_TRACK, OTHER_TRACK = "track_10min_16mb", "track_non_record_16mb"
RECORD_BYTES, RECORD_SECONDS = 16_000_000, 600
CREDIT = re.compile(r"PR \d+(?:, \d+)*|arXiv[: ]\d{4}\.\d{5}|arxiv\.org/abs/\d{4}\.\d{5}")
CURVES = ("train_loss", "val_bpb")

Curves = Mapping[str, list[tuple[int, float, float | None]]]  # name -> (step, value, seconds of training)
ALLOWED = ("torch", "numpy", "sentencepiece", "brotli", "constriction")


@dataclass(frozen=True)
class Author:
    """Who submits; nobody where it was not said."""

    name: str = ""
    github_id: str = ""


@dataclass(frozen=True)
class Exported:
    """A folder that was written, and what its file came to when it was run."""

    folder: Path
    summary: dict[str, Any] = field(repr=False)  # submission.json
    recorded: float | None
    scored: float | None = None  # None: not run
    skipped: str = ""  # why not

    @property
    def agrees(self) -> bool:
        return self.scored is None or self.scored == self.recorded


def export(
    result: Result,
    store: Store,
    out: Path,
    *,
    author: Author | None = None,
    track: str | None = None,
    force: bool = False,
    check: bool = True,
    curves: Curves | None = None,
) -> Exported:
    """Write the folder of a trial, and run its file once.

    Raises:
        StoreError: if the trial has no artifact, or the store no longer has it.
        UserError: if something lies at `out` already, unless `force` gives it up.
    """
    config = parse_config(result.config)
    packed = packed_of(result, store)
    if config.pack.kind in ("zstd", "zpaq"):
        raise UserError(
            f"a submission is read with {', '.join(ALLOWED)} alone", f"pack.kind={config.pack.kind}",
            "run the config again with --set 'pack={kind: ans}'",
        )  # fmt: skip
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not force:
        raise UserError(
            "an export writes a new folder, or an empty one", str(out), "another --out, or --force"
        )
    tokens = tokens_of(result, store)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".exporting-") as work:
        folder = Path(work) / "submission"
        folder.mkdir()
        shutil.copyfile(bundle_of(result, store), folder / BUNDLE)
        shutil.copyfile(packed.path / ARTIFACT, folder / ARTIFACT)
        if tokens is not None and (tokens.path / TOKENIZER).is_file():
            shutil.copyfile(tokens.path / TOKENIZER, folder / TOKENIZER)
        summary = submission(result, config, folder, author or Author(), track)
        (folder / "submission.json").write_text(json.dumps(summary, indent=2) + "\n")
        (folder / "README.md").write_text(readme(result, config, summary))
        log = "\n".join(log_lines(result, config, summary, curves or {})) + "\n"
        (folder / f"train_seed{result.seed}.log").write_text(log)
        (folder / "config.yaml").write_text(to_yaml(config))
        result.write(folder / "result.json")
        skipped, scored = _why_not(result, config, tokens, check), None
        if skipped is None and tokens is not None:
            scored = _scored(result, config, folder, tokens.path)  # before what may lie at `out` is given up
        if out.exists():
            out.rename(Path(work) / "before")
        folder.rename(out)
    return Exported(out, summary, result.bpb, scored=scored, skipped=skipped or "")


def _why_not(result: Result, config: RunConfig, tokens: Artifact | None, check: bool) -> str | None:
    """Why the exported file is not run; None if it is."""
    if not check:
        return "it was not asked for"
    if result.bpb is None:
        return "the trial was not scored"
    if tokens is None:
        return "the store no longer has the select split"
    if config.rules.gang.device == "cuda" and not _has_gpu():
        return "the trial ran on a GPU, and here is none"
    return None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _scored(result: Result, config: RunConfig, folder: Path, tokens: Path) -> float:
    """What the exported file says of the exported artifact on the select split."""
    shards = shards_of(tokens, "select")
    arguments = ["--artifact", str((folder / ARTIFACT).resolve()), "--tokens", *map(str, shards), "--bytes"]
    arguments += [str(sidecar_of(shard, "select")) for shard in shards]
    threads = config.rules.gang.threads
    said = run_alone((folder / BUNDLE).resolve(), [*arguments, *_options(config)], threads)
    return float(json.loads(said.splitlines()[-1])["bpb"])


def _options(config: RunConfig) -> list[str]:
    """Where and how a trial was scored, as the exported file takes it; defaults are left out."""
    gang = config.rules.gang
    given = {"--device": gang.device, "--threads": str(gang.threads), "--attention": gang.attention}
    defaults = {"--device": "cpu", "--threads": "1", "--attention": "auto"}
    return [word for name, value in given.items() if value != defaults[name] for word in (name, value)]


# ---------------------------------------------------------------------------------- submission.json


def submission(
    result: Result, config: RunConfig, folder: Path, author: Author, track: str | None
) -> dict[str, Any]:
    """The keys that records share. `val_*` are of the validation split where it was scored."""
    scored = _metrics(result, "validate") or _metrics(result, result.scored_stage)
    split = "validation" if "validate" in result.stages else "select"
    code, model = ((folder / name).stat().st_size for name in (BUNDLE, ARTIFACT))
    tokenizer = folder / TOKENIZER
    made = result.provenance
    total, hardware = code + model, made.get("hardware", {})
    rules = config.rules
    return {
        "author": author.name,
        "github_id": author.github_id,
        "name": result.name,
        "date": datetime.date.today().isoformat(),
        "track": track or (RECORD_TRACK if _is_record_track(config) else OTHER_TRACK),
        "blurb": f"{', '.join(techniques(config)) or 'the plain network'}; {config.quantize.kind}, {config.pack.kind}",
        "val_bpb": scored.get("bpb"),
        "val_loss": scored.get("nats_per_token"),
        "val_bpb_std": None,  # of one seed
        "val_bpb_method": f"{split} split, {config.evaluate.described}",
        "pre_quant_val_bpb": result.prequant_bpb,
        "seeds": [result.seed],
        "seed_results": {
            str(result.seed): {
                "val_bpb": scored.get("bpb"),
                "val_loss": scored.get("nats_per_token"),
                "pre_quant_val_bpb": result.prequant_bpb,
                "quantized_val_bpb": result.quantized_bpb,
                "artifact_bytes": total,
                "steps": result.steps,
                "train_time_s": result.train_seconds,
                "eval_time_s": result.eval_seconds,
            }
        },
        "bytes_total": total,
        "bytes_code": code,
        "bytes_model_compressed": model,
        "bytes_tokenizer": tokenizer.stat().st_size if tokenizer.is_file() else None,
        "model_params": result.params,
        "hardware": f"{made.get('ranks', 1)} x {hardware.get('gpu') or hardware.get('processor') or 'unknown'}",
        "pytorch_version": made.get("packages", {}).get("torch"),
        "technique_summary": techniques(config),
        "compliance": {
            "artifact_under_cap": total <= rules.artifact_bytes,
            "train_under_cap": _under(result.train_seconds, rules.train_seconds),
            "eval_under_cap": _under(result.eval_seconds, rules.eval_seconds),
            "caps": {
                "bytes": rules.artifact_bytes,
                "train_s": rules.train_seconds,
                "eval_s": rules.eval_seconds,
            },
            "score_first": True,  # the scorer owns the targets, and nothing adapts
            "certificate_holds": _certified(result),
        },
        "attribution": attribution(config),
    }


def _metrics(result: Result, stage: str) -> dict[str, float]:
    return dict(result.stages[stage].metrics) if stage in result.stages else {}


def _is_record_track(config: RunConfig) -> bool:
    rules = config.rules
    return (
        rules.artifact_bytes <= RECORD_BYTES
        and max(rules.train_seconds, rules.eval_seconds) <= RECORD_SECONDS
        and config.rules.gang.gpu == "H100"
    )


def _under(measured: float | None, cap: float) -> bool | None:
    return None if measured is None else measured <= cap


def _certified(result: Result) -> bool | None:
    failed = _metrics(result, "certify").get("failed_checks")
    return None if failed is None else failed == 0


def techniques(config: RunConfig) -> list[str]:
    """What is on in the network beside its plain parts, by the modules' names."""
    plain = {"gpt", "attention", "rope", "mlp", "residual", "embedding", "softcap"}
    names = (type(section).__module__.rpartition(".")[2] for section in config.model.held())
    return sorted({name for name in names if name not in plain})


def attribution(config: RunConfig) -> dict[str, str]:
    """Where each technique comes from, as far as its module's own text says."""
    modules = {type(section).__module__ for section in config.model.held()}
    texts = {module.rpartition(".")[2]: sys.modules[module].__doc__ or "" for module in modules}
    return {name: credit[0] for name in techniques(config) if (credit := CREDIT.search(texts[name]))}


# ---------------------------------------------------------------------------------------- the log


def log_lines(result: Result, config: RunConfig, summary: dict[str, Any], curves: Curves) -> Iterator[str]:
    """The trial in the order and the words of records' logs; a line whose number was not measured is not there."""
    yield from (f"{name}: {value}" for name, value in flat(config.plain()))
    yield from _line("val_tokens: {:d}", result.val_tokens)
    yield from _line("model_params:{:d}", result.params)
    yield from _step_lines(result, curves)
    if config.train.budget.kind == "seconds" and result.train_seconds is not None:
        yield (f"stopping_early: wallclock_cap train_time: {1000 * result.train_seconds:.0f}ms "
               f"step: {result.steps}/{result.steps}")  # fmt: skip
    if result.peak_memory_bytes is not None:
        yield f"peak memory allocated: {result.peak_memory_bytes / 2**20:.0f} MiB"
    yield from _scores("diagnostic pre-quantization post-ema", result, "prequant")
    if "calibrate" in result.stages:
        yield "GPTQ:collecting Hessians from calibration data..."
        yield f"GPTQ:collected in {result.stages['calibrate'].seconds:.1f}s"
    yield f"Code size (compressed): {summary['bytes_code']} bytes"
    form = f"quantized+{config.pack.kind}"
    yield f"Serialized model {form}: {summary['bytes_model_compressed']} bytes"
    yield f"Total submission size {form}: {summary['bytes_total']} bytes"
    yield from _scores("diagnostic quantized", result, "evaluate")
    yield from _scores(
        "quantized_sliding_window", result, "validate" if "validate" in result.stages else result.scored_stage
    )
    yield from _line("total_eval_time:{:.1f}s", result.eval_seconds)


def flat(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values of nested mappings.

    >>> list(flat({"a": {"b": 1}, "c": 2}))
    [('a.b', 1), ('c', 2)]
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value


def _line(form: str, value: float | None) -> Iterator[str]:
    if value is not None:
        yield form.format(value)


def _step_lines(result: Result, curves: Curves) -> Iterator[str]:
    speed = "" if result.tokens_per_second is None else f" tok/s: {result.tokens_per_second:.0f}"
    points = [(step, name, value, at) for name in CURVES for step, value, at in curves.get(name, [])]
    for step, name, value, at in sorted(points, key=lambda point: point[0]):
        clock = "" if at is None else f" train_time: {at / 60:.1f}m"
        yield f"{step}/{result.steps or step} {name}: {value:.4f}{clock}{speed}"


def _scores(label: str, result: Result, stage: str) -> Iterator[str]:
    found = _metrics(result, stage)
    if "bpb" in found:
        clock = found.get("eval_seconds", result.stages[stage].seconds)
        yield (f"{label} val_loss:{found['nats_per_token']:.8f} val_bpb:{found['bpb']:.8f} "
               f"eval_time:{1000 * clock:.0f}ms")  # fmt: skip


def recorded_curves(client: Any, run_id: str) -> Curves:
    """The live curves of a trial, from MLflow."""
    out: dict[str, list[tuple[int, float, float | None]]] = {}
    for name in CURVES:
        clock = {m.timestamp: float(m.step) for m in client.get_metric_history(run_id, f"{name}_by_second")}
        out[name] = [
            (m.step, m.value, clock.get(m.timestamp)) for m in client.get_metric_history(run_id, name)
        ]
    return out


# ------------------------------------------------------------------------------------- for people


def readme(result: Result, config: RunConfig, summary: dict[str, Any]) -> str:
    """What it is, what it came to, how to score it."""
    split = "validation" if "validate" in result.stages else "select"
    shard = f"{split}_000000.bin"
    command = [
        "python",
        BUNDLE,
        "--artifact",
        ARTIFACT,
        "--tokens",
        shard,
        "--bytes",
        f"{split}_bytes_000000.bin",
    ]
    shown = {
        f"bits per byte, {split} split": bits(summary["val_bpb"]),
        "nats per token": bits(summary["val_loss"]),
        "bits per byte before quantization, select split": bits(result.prequant_bpb),
        "bytes of code and model": f"{whole(summary['bytes_total'])} of {whole(config.rules.artifact_bytes)}",
        f"bytes of code (`{BUNDLE}` as it lies here)": whole(summary["bytes_code"]),
        f"bytes of model (`{ARTIFACT}`)": whole(summary["bytes_model_compressed"]),
        "bytes of tokenizer, not counted": whole(summary["bytes_tokenizer"]),
        "training seconds": seconds(result.train_seconds),
        "evaluation seconds": seconds(result.eval_seconds),
        "seed": str(result.seed),
        "steps": whole(result.steps),
        "parameters": whole(result.params),
        "hardware": summary["hardware"],
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in shown.items())
    credits_ = "\n".join(f"- {name}: {where}" for name, where in summary["attribution"].items())
    return f"""# {result.name}

{summary["blurb"]}.

| | |
|---|---|
{rows}

## Score it

    {shlex.join([*command, *_options(config)])}

`{BUNDLE}` is one self-extracting Python file and holds everything that scoring needs beside Python 3.11 or newer,
torch, numpy, sentencepiece, brotli and constriction: the decoder, the network, the scorer and this trial's windows
({config.evaluate.described}). It reads the artifact, token shards and their
byte counts, and prints the score as JSON (`--out FILE` also writes it); `--device cuda` scores on a GPU. It has the
name that the competition gives it; pgolf did the training.

## Have it again

`config.yaml` is the trial's whole config, `result.json` what it came to. With pgolf installed:

    pgolf run config.yaml
    pgolf reproduce result.json

## Where it comes from

{credits_ or "- nothing but the baseline"}
"""
