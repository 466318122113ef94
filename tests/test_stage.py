"""Stages: done once, published whole or not at all, found by what decides the result and nothing else."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.errors import StoreError
from pgolf.runtime import Runtime
from pgolf.section import Section, digest_of
from pgolf.stage import KEY_CHARS, RECORD, Artifact, Stage, Store, made_whole

ROOT = Path(__file__).resolve().parents[1]
HERE = Runtime()


class Extra(Section):
    depth: int = 1


class Knobs(Section):
    scale: float = 1.0
    extra: Extra | None = None


class NewerKnobs(Section):
    """Knobs a release later: one more technique, off by default."""

    scale: float = 1.0
    extra: Extra | None = None
    smear: Extra | None = None


class Work:
    """A stage body that counts how often it ran."""

    def __init__(self, fail: bool = False, metrics: dict | None = None) -> None:
        self.runs, self.fail, self.metrics = 0, fail, metrics

    def __call__(self, *inputs: Path, out: Path, runtime: Runtime, knobs: Section, **seeded: int) -> dict:
        self.runs += 1
        (out / "sub").mkdir()
        (out / "sub" / "data.bin").write_bytes(b"0123456789" * 3)
        (out / "note.txt").write_text(f"{knobs.plain()} {seeded}")
        if self.fail:
            raise RuntimeError("in the middle of the work")
        return self.metrics if self.metrics is not None else {"runs": self.runs}


def files(root: Path) -> list[str]:
    return sorted(str(f.relative_to(root)) for f in root.rglob("*"))


def test_the_second_call_finds_what_the_first_made(tmp_path):
    work, store = Work(), Store(tmp_path)
    stage = Stage("work", 1, work)
    first = stage(store, runtime=HERE, knobs=Knobs())
    again = stage(Store(tmp_path), runtime=Runtime(device="cpu", threads=2), knobs=Knobs())
    assert work.runs == 1
    assert (first.cached, again.cached) == (False, True)
    assert (first.path, first.digest, first.metrics, first.key) == (
        again.path,
        again.digest,
        again.metrics,
        again.key,
    )
    assert again.seconds == first.seconds > 0


def test_the_record_holds_the_identity_whole_and_the_key_is_its_hash(tmp_path):
    upstream = Artifact(tmp_path, "f00d")
    made = Stage("work", 3, Work())(
        Store(tmp_path / "s"), upstream, runtime=HERE, seed=7, knobs=Knobs(scale=2.0)
    )
    record = json.loads((made.path / RECORD).read_text())
    assert record["identity"] == {
        "stage": "work", "version": 3, "sections": {"knobs": {"scale": 2.0}}, "inputs": ["f00d"], "seed": 7,
    }  # fmt: skip
    assert made.key == digest_of(record["identity"])[:KEY_CHARS] == made.path.name
    assert sorted(record["files"]) == ["note.txt", "sub/data.bin"]
    assert record["digest"] == digest_of(record["files"]) == made.digest


@pytest.mark.parametrize(
    "change", ["name", "version", "section", "input", "order of inputs", "seed", "no seed"]
)
def test_whatever_decides_the_result_is_in_the_key(tmp_path, change):
    a, b = Artifact(tmp_path, "a"), Artifact(tmp_path, "b")
    stage, knobs, inputs, seed = Stage("work", 1, Work()), Knobs(), (a, b), 1
    before = stage.identity({"knobs": knobs}, inputs, seed)
    match change:
        case "name":
            stage = Stage("work2", 1, Work())
        case "version":
            stage = Stage("work", 2, Work())
        case "section":
            knobs = Knobs(scale=1.0000001)
        case "input":
            inputs = (a, Artifact(tmp_path, "c"))
        case "order of inputs":
            inputs = (b, a)
        case "seed":
            seed = 2
        case "no seed":
            seed = None
    assert digest_of(stage.identity({"knobs": knobs}, inputs, seed)) != digest_of(before)


def test_where_an_input_lies_and_where_the_stage_runs_are_not_in_the_key(tmp_path):
    stage = Stage("work", 1, Work())
    here = stage.identity({"knobs": Knobs()}, (Artifact(tmp_path, "a", {"m": 1.0}, "k", 3.0, True),), None)
    there = stage.identity({"knobs": Knobs()}, (Artifact(tmp_path / "x", "a"),), None)
    assert here == there


def test_a_technique_that_is_off_leaves_no_trace_in_a_key():
    stage = Stage("work", 1, Work())
    old, new = (stage.identity({"knobs": k}, (), 0) for k in (Knobs(), NewerKnobs()))
    on = stage.identity({"knobs": NewerKnobs(smear=Extra())}, (), 0)
    assert digest_of(old) == digest_of(new) != digest_of(on)


def test_equal_files_have_equal_digests_wherever_they_came_from(tmp_path):
    one, two = Stage("one", 1, Work()), Stage("two", 5, Work())
    assert (
        one(Store(tmp_path), runtime=HERE, knobs=Knobs()).digest
        == two(Store(tmp_path), runtime=HERE, knobs=Knobs()).digest
    )


def test_a_stage_that_raises_publishes_nothing_and_can_be_run_again(tmp_path):
    store = Store(tmp_path / "store")
    with pytest.raises(RuntimeError, match="middle"):
        Stage("work", 1, Work(fail=True))(store, runtime=HERE, knobs=Knobs())
    assert files(tmp_path / "store") == []
    assert not Stage("work", 1, Work())(store, runtime=HERE, knobs=Knobs()).cached


def test_an_entry_appears_by_one_rename_or_not_at_all(tmp_path, monkeypatch):
    def full(self: Path, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        Stage("work", 1, Work())(Store(tmp_path / "store"), runtime=HERE, knobs=Knobs())
    assert files(tmp_path / "store") == ["work"]


SLOW = """
import sys, time
from pathlib import Path
from pgolf.runtime import Runtime
from pgolf.stage import Stage, Store

def run(*, out, runtime):
    (out / "half.bin").write_bytes(b"x" * 1000)
    Path(sys.argv[2]).touch()
    while not Path(sys.argv[3]).exists():
        time.sleep(0.02)
    (out / "whole.bin").write_bytes(b"y" * 1000)
    return {"pid": 1}

made = Stage("slow", 1, run)(Store(sys.argv[1]), runtime=Runtime())
print(made.cached, made.digest)
"""


def process(store: Path, started: Path, go_on: Path) -> subprocess.Popen:
    """A process that says when it is in the middle of the stage, and ends it when it is told to."""
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(store), str(started), str(go_on)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(*paths: Path) -> None:
    until = time.monotonic() + 60
    while not all(p.exists() for p in paths):
        assert time.monotonic() < until, "the process began its stage"
        time.sleep(0.02)


def test_a_process_killed_in_the_middle_of_a_stage_publishes_nothing(tmp_path):
    worker = process(tmp_path / "store", tmp_path / "started", tmp_path / "never")
    wait_for(tmp_path / "started")
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    assert worker.returncode == -signal.SIGKILL
    assert not (tmp_path / "store" / "slow").exists()
    again = process(tmp_path / "store", tmp_path / "started", tmp_path)
    assert again.communicate()[0].startswith("False")


def test_two_processes_that_race_for_one_key_both_get_the_same_entry(tmp_path):
    marks = [tmp_path / "a", tmp_path / "b"]
    workers = [process(tmp_path / "store", mark, tmp_path / "go") for mark in marks]
    wait_for(*marks)  # both are inside the stage
    (tmp_path / "go").touch()
    said = [w.communicate(timeout=60)[0].split() for w in workers]
    assert [w.returncode for w in workers] == [0, 0]
    assert said[0][1] == said[1][1]
    (entry,) = (tmp_path / "store" / "slow").iterdir()
    assert files(entry) == ["half.bin", RECORD, "whole.bin"]
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["slow"]  # no workspace is left behind


@pytest.mark.parametrize(
    "metrics",
    [{"a": float("nan")}, {"a": object()}, {"a": float("inf")}, {1: 2.0}, {"a": (1, 2)}],
    ids=["nan", "object", "inf", "key", "tuple"],
)
def test_what_cannot_be_hashed_is_refused_and_not_published(tmp_path, metrics):
    with pytest.raises(TypeError):
        Stage("work", 1, Work(metrics=metrics))(Store(tmp_path / "s"), runtime=HERE, knobs=Knobs())
    assert files(tmp_path / "s") == []


def damaged(tmp_path: Path) -> tuple[Stage, Store, Path]:
    stage, store = Stage("work", 1, Work()), Store(tmp_path)
    return stage, store, stage(store, runtime=HERE, knobs=Knobs()).path


def test_a_truncated_file_is_a_damaged_entry(tmp_path):
    stage, store, entry = damaged(tmp_path)
    (entry / "sub" / "data.bin").write_bytes(b"0123")
    with pytest.raises(StoreError, match=r"has the 30 bytes(.|\n)*data\.bin \(4\)(.|\n)*delete "):
        stage(store, runtime=HERE, knobs=Knobs())


def test_a_missing_file_is_a_damaged_entry(tmp_path):
    stage, store, entry = damaged(tmp_path)
    (entry / "note.txt").unlink()
    with pytest.raises(StoreError, match=r"note\.txt(.|\n)*missing"):
        stage(store, runtime=HERE, knobs=Knobs())


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"files": {}}', '{"files": {}, "digest": "x", "metrics": {}}',
                                  '{"files": [], "digest": "x", "metrics": {}, "seconds": 1}',
                                  '{"files": {"a": 3}, "digest": "x", "metrics": {}, "seconds": 1}'])  # fmt: skip
def test_a_record_that_cannot_be_read_is_a_damaged_entry(tmp_path, text):
    stage, store, entry = damaged(tmp_path)
    (entry / RECORD).write_text(text)
    with pytest.raises(StoreError, match=r"readable record\.json"):
        stage(store, runtime=HERE, knobs=Knobs())


def test_an_entry_without_its_record_is_a_damaged_entry(tmp_path):
    stage, store, entry = damaged(tmp_path)
    (entry / RECORD).unlink()
    with pytest.raises(StoreError, match=r"readable record\.json(.|\n)*delete "):
        stage(store, runtime=HERE, knobs=Knobs())


def test_the_shards_that_were_opened_are_noted_and_nothing_else_is(tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    for name in ("validation_000000.bin", "fineweb_train_000001.bin", "tokenizer.model"):
        (given / name).write_text("x")

    def reads(shards: Path, *, out: Path, runtime: Runtime) -> dict[str, float]:
        for file in shards.iterdir():
            file.read_text()
        (out / "select_000000.bin").write_text("x")
        return {}

    store = Store(tmp_path / "store")
    made = Stage("reads", 1, reads)(store, Artifact.of(given), runtime=Runtime())
    named = ["fineweb_train_000001.bin", "select_000000.bin", "validation_000000.bin"]
    assert store.opened("reads", made.key) == named
    assert store.opened("reads", "gone") is None


def test_a_deleted_entry_is_made_again(tmp_path):
    stage, store, entry = damaged(tmp_path)
    before = (entry / RECORD).read_text()
    for file in sorted(entry.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    entry.rmdir()
    again = stage(store, runtime=HERE, knobs=Knobs())
    assert not again.cached
    assert json.loads((again.path / RECORD).read_text())["digest"] == json.loads(before)["digest"]


def test_a_store_that_is_no_directory_works_too(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where copies of a remote store lie
    url, work = f"memory://pgolf-{uuid.uuid4().hex}", Work()
    stage = Stage("work", 1, work)
    first = stage(Store(url), runtime=HERE, knobs=Knobs())
    assert (first.path / "sub" / "data.bin").stat().st_size == 30
    assert stage(Store(url), runtime=HERE, knobs=Knobs()).cached
    for file in sorted(Store(url).directory.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    elsewhere = stage(Store(url), runtime=HERE, knobs=Knobs())  # a machine that has no copy yet
    assert elsewhere.cached
    assert (elsewhere.digest, work.runs) == (first.digest, 1)
    assert (elsewhere.path / "sub" / "data.bin").read_bytes() == (b"0123456789" * 3)


def test_on_an_object_store_the_record_is_written_last(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store, order = Store(f"memory://pgolf-{uuid.uuid4().hex}"), []
    put = store.fs.put_file
    monkeypatch.setattr(store.fs, "put_file", lambda a, b, **k: (order.append(Path(b).name), put(a, b, **k)))
    Stage("work", 1, Work())(store, runtime=HERE, knobs=Knobs())
    assert sorted(order) == ["data.bin", "note.txt", RECORD]
    assert order[-1] == RECORD


class Gang:
    """Two ranks played in one process: rank 1 asks after rank 0 and hears, word for word, what it said."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def rank(self, number: int) -> Runtime:
        gang = self

        class Rank(Runtime):
            def agree(self, value: object) -> object:
                if self.rank == 0:
                    gang.said.append(value)
                    return value
                return gang.said.pop(0)

            def gather(self, value: object) -> list[object]:
                return [value, {"train_000007.bin"}]  # one after the other they cannot hear each other

        return Rank(rank=number, world_size=2)


def test_a_collective_stage_runs_on_every_rank_and_rank_0_publishes(tmp_path):
    work, gang, store = Work(), Gang(), Store(tmp_path / "store")
    stage = Stage("work", 1, work, collective=True)
    made = stage(store, runtime=gang.rank(0), seed=3, knobs=Knobs())
    published = {f: f.stat().st_mtime_ns for f in (tmp_path / "store").rglob("*")}
    follower = stage(store, runtime=gang.rank(1), seed=3, knobs=Knobs())
    assert work.runs == 2
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "store").rglob("*")} == published
    assert follower == made
    assert made.digest and made.metrics and not made.cached
    assert store.opened("work", made.key) == ["train_000007.bin"], "by whichever rank"
    assert gang.said == [], "rank 1 waits as often as rank 0 speaks"
    again = [stage(store, runtime=gang.rank(r), seed=3, knobs=Knobs()) for r in (0, 1)]
    assert work.runs == 2  # found by rank 0, which told rank 1
    assert again[0].cached
    assert again[0] == again[1]
    assert gang.said == []


def test_a_seed_reaches_the_body_only_where_it_is_part_of_the_work(tmp_path):
    stage = Stage("work", 1, Work())
    seeded = stage(Store(tmp_path), runtime=HERE, seed=11, knobs=Knobs())
    plain = stage(Store(tmp_path), runtime=HERE, knobs=Knobs())
    assert (seeded.path / "note.txt").read_text().endswith("{'seed': 11}")
    assert (plain.path / "note.txt").read_text().endswith("{}")
    assert seeded.key != plain.key


@given(content=st.dictionaries(st.text("abcxyz", min_size=1), st.binary(max_size=20), min_size=1, max_size=4))
def test_given_files_are_identified_by_their_content(tmp_path, content):
    def put(name: str, swapped: bool = False) -> Artifact:
        home = tmp_path / name / uuid.uuid4().hex
        home.mkdir(parents=True)
        for file, data in content.items():
            (home / file).write_bytes(data + b"!" if swapped else data)
        return Artifact.of(home)

    assert put("a").digest == put("b").digest != put("c", swapped=True).digest


def test_on_an_object_store_the_entry_published_first_stays(tmp_path):
    """Two writers of one key measured other seconds: a reader must not see files of both."""
    store = Store(f"memory://pgolf-{uuid.uuid4().hex}")
    for name in ("first", "second"):
        out = tmp_path / name
        out.mkdir()
        (out / "scores.json").write_text(name)
        (out / RECORD).write_text("{}")
        store.publish("evaluate", "k", out)
    assert store.fs.cat(f"{store.base}/evaluate/k/scores.json") == b"first"


def test_a_file_is_there_whole_or_not_at_all_and_the_first_one_stays(tmp_path):
    target = tmp_path / "deep" / "a.db"

    def killed(half: Path) -> None:
        half.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_whole(target, killed)
    assert list(tmp_path.rglob("*.db")) == []
    made_whole(target, lambda half: (half.write_text("first"), target.write_text("the other's"))[0])
    assert target.read_text() == "the other's"
    made_whole(target, lambda half: half.write_text("again"))
    assert target.read_text() == "the other's"
    assert list(target.parent.iterdir()) == [target]
