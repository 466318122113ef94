"""`pgolf data` as it is typed: what it prints, its exit codes, and mistakes that leave nothing behind."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pgolf import cli_data
from pgolf.cli import main
from pgolf.cli_data import Meter
from pgolf.data.case_ops import CaseOps
from pgolf.data.check import RULES
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.errors import ConfigError
from pgolf.formats.shards import read_shard, write_shard
from tests.data.hub_server import HubServer
from tests.test_cli_hostile import listing, refused

TEXTS = [f"the parcel number {i} was sent to Street {i * 7} on a day in May\n" * 4 for i in range(90)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with texts, a model, and outputs that are in the way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"body": t, "text": t}) + "\n" for t in TEXTS))
    (tmp_path / "one.txt").write_text(TEXTS[0])
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "latin.txt").write_bytes("|".join(["été"] * 50).encode("latin-1"))
    (tmp_path / "cut.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "m.model").write_bytes(SpBpe(vocab_size=300).train(t.encode() for t in TEXTS).model)
    (tmp_path / "none.model").write_bytes(b"no model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "train_000000.bin").write_bytes(b"mine")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "x.png").write_bytes(b"")
    (tmp_path / "no_access.txt").write_text("secret")
    return tmp_path


def pgolf(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pgolf", *argv])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


BUILD = ["data", "build", "d.jsonl", "--out", "o", "--tokenizer", "m.model", "--workers", "1"]
NOWHERE = ["--endpoint", "http://127.0.0.1:1"]

# what is typed -> what the message must say
TABLE: dict[str, tuple[list[str], list[str]]] = {
    "unknown variant": (["data", "fetch", "sp1042"], ["published ones", "sp1042", "did you mean 'sp1024'", "--repo"]),
    "a hub that does not answer": (["data", "fetch", "sp1024", *NOWHERE], ["hub answers", "127.0.0.1:1", "--endpoint"]),
    "a repository that is no name": (
        ["data", "fetch", "x", "--repo", "no body", *NOWHERE], ["owner/name", "no body", "--repo"],
    ),
    "fewer than no shards": (["data", "fetch", "sp1024", "--train-shards=-1"], ["--train-shards", "-1", "0 fetches"]),
    "fetching below a file": (["data", "fetch", "sp1024", "--out", "one.txt/x"], ["a directory", "one.txt", "--out"]),
    "a path with nothing there": (["data", "build", "gone.jsonl", *BUILD[3:]], ["can be read", "gone.jsonl", "check"]),
    "a folder without text": (["data", "build", "pictures", *BUILD[3:]], ["folder of text", "pictures", "themselves"]),
    "existing output": ([*BUILD[:4], "full", *BUILD[5:]], ["new or empty", "train_000000.bin", "--out"]),
    "an output that is a file": ([*BUILD[:4], "one.txt", *BUILD[5:]], ["a directory", "one.txt", "--out"]),
    "not enough text for the vocabulary": (
        [*BUILD[:6], "sp_bpe:8000", "--validation-documents", "9"],
        ["vocabulary of 8000", "bytes of training text taught", "smaller vocabulary"],
    ),
    "not enough documents": (
        ["data", "build", "one.txt", *BUILD[3:]], ["every split", "0 of 1, out of 1", "--separator"],
    ),
    "a fraction that is of too few documents": (
        [*BUILD, "--validation-fraction", "0.0001"], ["validation: 0 of 1, out of 90", "a larger fraction"],
    ),
    "all documents held out": ([*BUILD, "--validation-documents", "90"], ["every split", "train: 0 of 1", "fewer"]),
    "both a number and a fraction": (
        [*BUILD, "--validation-documents", "9", "--validation-fraction", "0.1"], ["number of documents or a fraction"],
    ),
    "a fraction in the given order": ([*BUILD, "--order", "given"], ["given order", "--validation-documents N"]),
    "an order that is none": ([*BUILD, "--order", "random"], ["--order", "random", "'hash', 'given'"]),
    "a field that no line has": ([*BUILD, "--text-field", "txet"], ["field 'txet'", "d.jsonl:1", "mean 'text'"]),
    "a line that is no JSON": (["data", "build", "broken.jsonl", *BUILD[3:]], ["is JSON", "broken.jsonl:2", "mend"]),
    "another encoding": (
        ["data", "build", "latin.txt", *BUILD[3:], "--separator", "|"], ["text is UTF-8", "latin.txt", "iconv"],
    ),
    "an archive that is cut short": (["data", "build", "cut.jsonl.gz", *BUILD[3:]], ["read whole", "cut.jsonl.gz"]),
    "a model that is none": ([*BUILD[:6], "none.model"], ["SentencePiece .model", "none.model", "check the path"]),
    "a model that is not there": ([*BUILD[:6], "gone.model"], ["SentencePiece .model", "gone.model", "check the path"]),
    "an unknown kind of tokenizer": ([*BUILD[:6], "sp_pbe:300"], ["no such kind", "sp_pbe:300", "'sp_bpe'"]),
    "a vocabulary that is no number": ([*BUILD[:6], "sp_bpe:big"], ["vocab_size", "sp_bpe:big", "way out"]),
    "a vocabulary below the least": ([*BUILD[:6], "sp_bpe:12"], ["vocab_size", "sp_bpe:12", "300"]),
    "settings that are no YAML": ([*BUILD[:6], "{kind: [}"], ["YAML", "{kind: [}", "vocab_size: 8192"]),
    "a shard too large for its header": ([*BUILD, "--shard-tokens", str(2**31)], ["--shard-tokens", "2147483647"]),
    "no output": (["data", "build", "d.jsonl"], ["--out", "pgolf data build --help"]),
    "a check of nothing": (["data", "check"], ["a directory, or", "pgolf data check DIR"]),
    "a check of half the globs": (["data", "check", "--train", "x"], ["--tokenizer together", "data check --train x"]),
    "a check of a path with nothing there": (["data", "check", "gone"], ["directory of shards", "gone", "the path"]),
    "a check of a directory without a model": (["data", "check", "full"], ["one tokenizer", "full has 0", "--tok"]),
    "a check of globs that name nothing": (
        ["data", "check", "--train", "x*", "--validation", "y*", "--tokenizer", "m.model"], ["to check", "--train"],
    ),
    "an unknown command of data": (["data", "fecth"], ["fecth", "pgolf data --help"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", TABLE)
def test_a_mistake_is_three_lines_and_leaves_nothing(mistake, place, monkeypatch, capsys):
    argv, words = TABLE[mistake]
    before = listing(place)
    said = refused(argv, monkeypatch, capsys)
    assert listing(place) == before
    message = said[said.index("pgolf: ") :].rstrip("\n").split("\n")
    assert len(message) <= 3, said
    assert max(map(len, message)) < 450, said
    assert message[-1].startswith("  way out: "), said
    for word in words:
        assert word in said, f"{word!r} is not said in:\n{said}"


def test_a_file_that_may_not_be_read_is_named(place, monkeypatch, capsys):
    real = Path.open

    def denied(self, *args, **more):
        if self.name == "no_access.txt":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **more)

    monkeypatch.setattr(Path, "open", denied)
    said = refused(["data", "build", "no_access.txt", *BUILD[3:]], monkeypatch, capsys)
    assert "no_access.txt: Permission denied" in said


def test_the_commands_are_accepted_where_the_tables_mistakes_are_not_made(place, monkeypatch, capsys):
    """Else every row could fail for another reason than its own. Build, check, break, check."""
    assert pgolf(monkeypatch, *BUILD, "--validation-documents", "9", "--select-documents", "3") == 0
    out = capsys.readouterr()
    assert "validation: 9 documents" in out.out
    assert "pgolf data check o" in out.out
    assert "encoding  90 of 90" in out.err
    assert pgolf(monkeypatch, "data", "check", "o") == 0
    assert "every rule holds" in capsys.readouterr().out
    assert pgolf(monkeypatch, "data", "check", "--train", "o/train_*.bin", "--validation", "o/validation_*.bin",
                 "--tokenizer", "o/tokenizer.model") == 0  # fmt: skip
    capsys.readouterr()
    shard = place / "o" / "train_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    assert pgolf(monkeypatch, "data", "check", "o", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "broken"
    assert len(answer["rules"]) == len(RULES)
    assert all(set(row) == {"rule", "verdict", "evidence", "remedy"} for row in answer["rules"])
    said = [row for row in answer["rules"] if row["verdict"] == "broken"]
    assert "train_000000.bin" in said[0]["evidence"]
    assert pgolf(monkeypatch, "data", "check", "o") == 1
    assert "rules broken" in capsys.readouterr().out


def test_the_command_that_is_printed_after_a_build_is_one_that_runs(place, monkeypatch, capsys):
    import shlex

    from pgolf.cli import _config

    assert pgolf(monkeypatch, *BUILD, "--validation-documents", "9") == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if "pgolf run" in x)
    _, _, recipe, setting = shlex.split(line)
    config = _config(recipe, [setting.removeprefix("--set=")])
    assert config.data.select.select_tokens == len(read_shard(place / "o" / "train_000000.bin")) // 20
    config.data.check()


def test_a_recipe_is_written_short_or_whole():
    made = cli_data._tokenizer
    assert made("sp_bpe:512") == SpBpe(vocab_size=512)
    assert made("sp_bpe") == SpBpe()
    assert made("case_ops/sp_official:512") == CaseOps(base=SpOfficial(vocab_size=512))
    assert made("{kind: sp_bpe, vocab_size: 400, character_coverage: 0.99}") == SpBpe(
        vocab_size=400, character_coverage=0.99
    )
    assert made("x/y.model") == Path("x/y.model")
    with pytest.raises(ConfigError, match="base"):
        made("case_ops:512")  # the vocabulary is the base's


def test_fetch_prints_what_came_and_what_to_do_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_shard(tmp_path / "s", np.arange(4, 900, dtype=np.uint16))
    shard = (tmp_path / "s").read_bytes()
    files = {f"flat/fineweb_{n}_000000.bin": shard for n in ("train", "val")} | {"flat/own.model": b"m"}
    with HubServer("me/mine", files).running() as hub:
        argv = ["data", "fetch", "sp300", "--repo", "me/mine", "--folder", "flat", "--endpoint", hub.url]
        assert pgolf(monkeypatch, *argv) == 0
        out = capsys.readouterr().out
        assert "3 files" in out
        assert "pgolf data check data/fineweb/sp300" in out
        assert pgolf(monkeypatch, *argv, "--json") == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["source"]["repo"] == "me/mine"
    assert sorted(f.name for f in (tmp_path / "data" / "fineweb" / "sp300").iterdir()) == [
        "fineweb_train_000000.bin", "fineweb_val_000000.bin", "manifest.json", "tokenizer.model",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["fetch", "build", "check"])
def test_help_has_an_example(command, monkeypatch, capsys):
    assert pgolf(monkeypatch, "data", command, "--help") == 0
    assert f"Example: pgolf data {command}" in " ".join(capsys.readouterr().out.replace("│", "").split())


def test_no_command_is_a_question_and_gets_the_help(monkeypatch, capsys):
    assert pgolf(monkeypatch, "data") == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("fetch", "build", "check"))


# -------------------------------------------------------------------------------------------- progress


def test_a_log_has_a_line_now_and_then_and_one_at_the_end_of_each_activity(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pgolf.cli_data.time.monotonic", lambda: now[0])
    log = io.StringIO()
    with Meter(Console(file=log, width=200)) as meter:
        for i in range(40):
            now[0] = float(i)
            meter("reading", i, 39)
        for _ in range(3):
            meter("reading", 39, 39)
        meter("encoding", 5, 0)
    lines = log.getvalue().splitlines()
    assert [line.split() for line in lines] == [
        [f"{s:.1f}", "s", "reading", str(s), "of", "39"] for s in (0, 10, 20, 30, 39)
    ] + [["39.0", "s", "encoding", "5"]]


def test_a_terminal_has_a_bar_that_goes_away():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with Meter(console) as meter:
        meter("bytes", 500, 1000)
        meter("bytes", 1000, 1000)
        meter("rules", 1, 13)
    assert "bytes" in screen.getvalue()
    assert "1,000 of 1,000" in screen.getvalue()
