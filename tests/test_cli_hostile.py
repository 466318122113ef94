"""Mistakes at the front door: every one is three lines at most, exit code 2, and nothing on disk.

Each row is a command line as a person types it and the words that its message must hold: the rule that
was broken, the value, and the way out. The directory it runs in is listed before and after.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pgolf.cli import main
from pgolf.data.tokenizer import SpBpe, Tokenizer
from pgolf.formats.shards import BOS, HEADER_BYTES, write_shard

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [
    f"the parcel number {i} was sent to street {i * 7} on a day in May\n".encode() * 4 for i in range(90)
]
OTHERS = [f"value = self.{chr(97 + i % 26)}_{i} or None # returns {i * 13}\n".encode() * 3 for i in range(90)]


@pytest.fixture(scope="module")
def tokenizers() -> tuple[Tokenizer, Tokenizer, Tokenizer]:
    """The writer of the shards, a smaller one, and another of the same size."""
    return (
        SpBpe(vocab_size=340).train(TEXTS),
        SpBpe(vocab_size=300).train(TEXTS),
        SpBpe(vocab_size=340).train(OTHERS),
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizers) -> Path:
    """A working directory with shards, tokenizers and config files, whole and broken."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    writer, smaller, other = tokenizers
    assert writer.vocab_size == other.vocab_size
    for name, model in (("writer", writer), ("smaller", smaller), ("other", other)):
        (tmp_path / f"{name}.model").write_bytes(model.model)
    stream = np.array([t for d in TEXTS for t in (BOS, *writer.encode(d))], dtype=np.uint16)
    for split, tokens in (("train", stream[: len(stream) * 4 // 5]), ("val", stream)):
        write_shard(tmp_path / f"{split}.bin", tokens)
    whole = (tmp_path / "train.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[:-7])
    (tmp_path / "headless.bin").write_bytes(whole[: HEADER_BYTES // 3])
    (tmp_path / "foreign.bin").write_bytes(b"\x1f\x8b" + whole[2:])
    (tmp_path / "half.yaml").write_text("model: {layers: 2\ntrain: [")
    (tmp_path / "list.yaml").write_text("- model\n- train\n")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    (tmp_path / "typo.yaml").write_text("model:\n  attention:\n    head: 4\n")
    (tmp_path / "a_file").write_text("not a directory")
    (tmp_path / "no_result.json").write_text("{}")
    (tmp_path / "no_artifact.bin").write_bytes(b"PGOLF, nearly")
    return tmp_path


SHARDS = (
    "--set=data={kind: shards, train: TRAIN, validation: VAL, tokenizer: TOK, select: {select_tokens: 900}}"
)


def shards(
    train: str = "train.bin", validation: str = "val.bin", tokenizer: str = "writer.model"
) -> list[str]:
    data = SHARDS.replace("TRAIN", train).replace("VAL", validation).replace("TOK", tokenizer)
    return ["run", "tiny", data]


def setting(*assignments: str) -> list[str]:
    return ["run", "tiny", *(f"--set={a}" for a in assignments)]


# what is typed -> what the message must say: the rule, the value, the way out
TABLE: dict[str, tuple[list[str], list[str]]] = {
    "unknown key": (setting("model.layrs=3"), ["model.layrs is not a setting", "layrs=3", "did you mean 'layers'"]),
    "unknown key at the top": (setting("modle.layers=3"), ["modle is not a setting", "did you mean 'model'"]),
    "unknown key in a union": (setting("quantize.dampning=0.1"), ["dampning=0.1", "did you mean 'damping'"]),
    "unknown key below a union": (
        setting("quantize.grids.mlp.bit=4"), ["quantize.grids.mlp.bit", "bit=4", "did you mean 'bits'"],
    ),
    "unknown key in a file": (["run", "typo.yaml"], ["model.attention.head", "head=4", "did you mean 'heads'"]),
    "unknown kind": (setting("quantize.kind=gptqq"), ["quantize: no such kind", "gptqq", "'rtn', 'gptq'"]),
    "missing kind": (
        setting("pack={quality: 3}"), ["pack: say which kind", "quality", "kinds: ans, brotli, lzma, zstd, zpaq"],
    ),
    "wrong type": (setting("model.width=wide"), ["model.width", "wide", "type int"]),
    "out of range": (setting("optim.muon.momentum=1.5"), ["optim.muon.momentum", "1.5", "lt=1"]),
    "heads that do not divide the width": (
        setting("model.width=50", "model.attention.heads=4"), ["heads", "50", "way out"],
    ),
    "kv heads that do not divide the heads": (
        setting("model.attention.heads=4", "model.attention.kv_heads=3"), ["kv_heads", "3", "way out"],
    ),
    "budget of zero seconds": (setting("train.budget={kind: seconds, seconds: 0}"), ["seconds", "0", "gt=0"]),
    "budget of zero steps": (setting("train.budget.steps=0"), ["train.budget.steps", "0", "ge=1"]),
    "batch shorter than a window": (setting("train.batch_tokens=16"), ["batch_tokens", "16", "way out"]),
    "gptq without calibration": (
        setting("calibrate=null"),
        ["quantize.kind=gptq needs calibration", "calibrate=null", "quantize.kind=rtn"],
    ),
    "a rule of play below zero": (setting("rules.train_seconds=-1"), ["rules.train_seconds", "-1", "gt=0"]),
    "not a number": (setting("optim.muon.lr=.nan"), ["optim.muon.lr", "nan", "way out"]),
    "the solver without calibration": (
        setting("quantize={kind: rate_distortion}", "calibrate=null"),
        ["quantize.kind=rate_distortion needs calibration", "calibrate=null", "set calibrate"],
    ),
    "the solver without the Fisher information": (
        setting("quantize={kind: rate_distortion}"),
        ["rate_distortion weighs outputs by their Fisher", "calibrate.fisher=null", "calibrate.fisher.tokens=4096"],
    ),
    "the solver inside another, without the Fisher information": (
        setting("quantize={kind: lqer, base: {kind: rate_distortion}}"),
        ["lqer weighs outputs by their Fisher", "calibrate.fisher=null", "calibrate.fisher.tokens=4096"],
    ),
    "two-sided steps without whole covariances": (
        setting("quantize={kind: rate_distortion, form: {kind: two_sided}}", "calibrate.fisher={tokens: 512}"),
        ["whole output covariances", "calibrate.fisher.full=false", "--set calibrate.fisher.full=true"],
    ),
    "more text for the Fisher than there is": (
        setting("calibrate.fisher={tokens: 5000}"), ["calibration text", "fisher.tokens=5000", "4096 at most"],
    ),
    "a byte target over the cap": (
        setting("quantize={kind: rate_distortion, target_bytes: 400000}", "calibrate.fisher={tokens: 512}"),
        ["within the rules' cap", "target_bytes=400000", "target_bytes=300000 at most"],
    ),
    "a form that there is none of": (
        setting("quantize={kind: rate_distortion, form: {kind: fisher_row}}", "calibrate.fisher={tokens: 512}"),
        ["quantize.form: no such kind", "fisher_row", "'fisher_rows'"],
    ),
    "a packer that there is none of": (setting("pack.kind=zstdd"), ["pack: no such kind", "zstdd", "'zstd'"]),
    "a temperature of zero": (
        setting("calibrate.source={kind: self_generated, temperature: 0}"),
        ["calibrate.source.temperature", "0", "gt=0"],
    ),
    "a path below a plain value": (setting("seed.deep=1"), ["seed.deep", "42", "shorten the path"]),
    "set without =": (setting("model.layers"), ["--set takes path=value", "model.layers", "for example"]),
    "set without a path": (setting("=4"), ["--set takes path=value", "=4", "for example"]),
    "set with broken YAML": (setting("name={a: b"), ["the value of --set is YAML", "name={a: b", "quote it"]),
    "unknown recipe": (["run", "tinny"], ["a recipe's name", "tinny", "did you mean 'tiny'"]),
    "missing config file": (["run", "nowhere/mine.yaml"], ["can be read", "nowhere/mine.yaml", "pgolf recipes"]),
    "config that is a directory": (["run", "./"], ["file that can be read", "directory", "pgolf recipes"]),
    "broken YAML": (["run", "half.yaml"], ["YAML or JSON", "half.yaml", "mend the file"]),
    "a YAML that is a list": (["run", "list.yaml"], ["mapping of settings", "list.yaml: list", "key: value"]),
    "an empty YAML": (["run", "empty.yaml"], ["mapping of settings", "empty.yaml", "key: value"]),
    "a YAML that is no text": (["run", "binary.yaml"], ["YAML or JSON", "binary.yaml", "mend the file"]),
    "missing shard": (shards(train="gone_*.bin"), ["shards that exist", "gone_*.bin", "check the path"]),
    "missing validation shard": (shards(validation="gone.bin"), ["data.validation", "gone.bin", "check the path"]),
    "truncated shard": (shards(train="cut.bin"), ["bytes", "cut.bin", "fetch or build it again"]),
    "shard cut inside its header": (shards(train="headless.bin"), ["begins with 20240520", "headless.bin", "again"]),
    "foreign file as a shard": (shards(validation="foreign.bin"), ["begins with 20240520", "foreign.bin", "again"]),
    "training on the validation shard": (shards(train="val.bin"), ["among the training shards", "val.bin", "disjoint"]),
    "missing tokenizer": (shards(tokenizer="gone.model"), ["SentencePiece .model", "gone.model", "check the path"]),
    "tokenizer that is none": (shards(tokenizer="train.bin"), ["SentencePiece .model", "train.bin", "check the path"]),
    "tokenizer with too small a vocabulary": (
        shards(tokenizer="smaller.model"), ["vocabulary's size", "train.bin", "the tokenizer that the shards"],
    ),
    "another tokenizer of the same size": (
        shards(tokenizer="other.model"), ["as this tokenizer splits", "train.bin", "the tokenizer that the shards"],
    ),
    "a store that is a file": (["run", "tiny", "--store", "a_file"], ["a store is a directory", "a_file", "--store"]),
    "a store below a file": (["run", "tiny", "--store", "a_file/x"], ["a store is a directory", "a_file", "--store"]),
    "a store of no known kind": (["run", "tiny", "--store", "nosuch://x"], ["fsspec URL", "nosuch", "--store"]),
    "a board of a store that is a file": (["board", "--store", "a_file"], ["a directory", "a_file", "--store"]),
    "a gang without torchrun": (
        setting("rules.gang.ranks=2"), ["2 ranks", "1 process", "torchrun --nproc-per-node 2 -m pgolf run tiny"],
    ),
    "rows that the ranks cannot share": (setting("rules.gang.ranks=3"), ["evenly", "3 ranks", "train.batch_tokens="]),
    "unknown round": (["search", "labtop"], ["a round is a module", "labtop", "did you mean 'laptop'"]),
    "unknown round to submit": (
        ["submit", "labtop", "--address", "http://127.0.0.1:1"], ["a round is a module", "labtop", "'laptop'"],
    ),
    "unknown run to show": (["show", "#1"], ["none yet", "mlflow.db", "--store"]),
    "unknown run to compare": (["diff", "a", "b"], ["none yet", "mlflow.db", "--store"]),
    "unknown run to reproduce": (["reproduce", "tiny"], ["none yet", "mlflow.db", "--store"]),
    "unknown run to certify": (["certify", "tiny"], ["none yet", "mlflow.db", "--store"]),
    "missing result file": (["show", "gone/result.json"], ["a file that exists", "gone/result.json", "rank"]),
    "a result that is none": (["show", "no_result.json"], ["readable result.json", "no_result.json", "run the trial"]),
    "missing artifact": (["certify", "gone.bin"], ["can be read", "gone.bin", "check the path"]),
    "an artifact that is none": (["certify", "no_artifact.bin"], ["begins with PGOLF", "no_artifact.bin", "again"]),
    "unknown stage to reproduce from": (["reproduce", "x", "--from", "trian"], ["--from", "trian", "'quantize'"]),
    "an order that no board has": (["board", "--by", "size"], ["--by", "size", "'deployed', 'pareto'"]),
    "unknown option": (["run", "tiny", "--sett", "a=b"], ["--sett", "pgolf run tiny", "pgolf run --help"]),
    "unknown command": (["serch", "laptop"], ["serch", "pgolf serch laptop", "--help"]),
    "missing argument": (["run"], ["argument", "pgolf run", "pgolf run --help"]),
    "trials that are no number": (["search", "laptop", "--trials", "many"], ["--trials", "many", "--help"]),
}  # fmt: skip


def listing(place: Path) -> list[tuple[str, int, int]]:
    return sorted(
        (str(f.relative_to(place)), f.stat().st_size, f.stat().st_mtime_ns) for f in place.rglob("*")
    )


def refused(argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["pgolf", *argv])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2, said.err
    assert said.out == ""
    return said.err


@pytest.mark.parametrize("mistake", TABLE)
def test_a_mistake_is_three_lines_and_leaves_nothing(mistake, place, monkeypatch, capsys):
    argv, words = TABLE[mistake]
    before = listing(place)
    message = refused(argv, monkeypatch, capsys)
    assert listing(place) == before
    lines = message.rstrip("\n").split("\n")
    assert len(lines) <= 3, message
    assert max(map(len, lines)) < 450, message
    assert lines[0].startswith("pgolf: "), message
    assert lines[-1].startswith("  way out: "), message
    for word in words:
        assert word in message, f"{word!r} is not said in:\n{message}"


def test_a_cuda_profile_without_a_gpu_says_what_to_change(place, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = listing(place)
    message = refused(["run", "tiny", "--set", "rules.gang.device=cuda"], monkeypatch, capsys)
    assert "needs an NVIDIA GPU" in message
    assert "--set rules.gang.device=cpu" in message
    assert listing(place) == before


def test_the_whole_shards_of_the_table_are_accepted(place, monkeypatch, capsys):
    """Else every row about shards could fail for another reason than its own."""
    from pgolf.cli import _config

    _, _, assignment = shards()
    _config("tiny", [assignment.removeprefix("--set=")]).data.check()


@pytest.mark.parametrize("mistake", ["unknown key", "truncated shard", "unknown option"])
def test_the_installed_command_says_the_same_from_a_process_of_its_own(mistake, place):
    argv, words = TABLE[mistake]
    before = listing(place)
    done = subprocess.run(
        [sys.executable, "-m", "pgolf", *argv], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().split("\n")) <= 3
    assert all(word in done.stderr for word in words)
    assert listing(place) == before


def test_no_command_at_all_is_a_question_and_gets_the_help(place, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pgolf"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "search" in capsys.readouterr().out
