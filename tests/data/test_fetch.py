"""Fetching against a hub on this machine: whole and checked, or not there; resumable after anything."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from pgolf.data import fetch as module
from pgolf.data.directory import MANIFEST, alone
from pgolf.data.fetch import Fetch, fetch
from pgolf.data.published import VARIANTS
from pgolf.errors import DataError
from pgolf.formats.shards import read_shard, write_shard
from tests.data.hub_server import COMMIT, Fault, HubServer

ROOT = Path(__file__).resolve().parents[2]
REPO = "willdepueoai/parameter-golf"
FOLDER = "datasets/datasets/fineweb10B_sp1024"
MODEL = "datasets/tokenizers/fineweb_1024_bpe.model"
VALIDATION = f"{FOLDER}/fineweb_val_000000.bin"


def train(i: int) -> str:
    return f"{FOLDER}/fineweb_train_{i:06d}.bin"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A published export: three training shards, one of validation, a tokenizer, the manifest that names it."""
    manifest = {
        "datasets": [{"name": "other"}, {"name": "fineweb10B_sp1024", "tokenizer_name": "t"}],
        "tokenizers": [{"name": "t", "model_path": "tokenizers/fineweb_1024_bpe.model"}],
    }
    found = {"datasets/manifest.json": json.dumps(manifest).encode(), MODEL: b"a model" * 400}
    for seed, path in enumerate([train(0), train(1), train(2), VALIDATION]):
        found[path] = shard(40_000 + seed, seed, tmp_path_factory.mktemp("shard"))
    return found


def shard(count: int, seed: int, folder: Path) -> bytes:
    write_shard(folder / "s", np.random.default_rng(seed).integers(4, 1000, count).astype(np.uint16))
    return (folder / "s").read_bytes()


@pytest.fixture
def hub(files, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 8192)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    with HubServer(REPO, dict(files)).running() as server:
        yield server


def asked(hub: HubServer, **more) -> Fetch:
    return Fetch("sp1024", endpoint=hub.url, **more)


def names(out: Path) -> list[str]:
    return sorted(f.name for f in out.iterdir()) if out.exists() else []


def test_published_files_arrive_byte_for_byte_with_a_manifest_of_them(hub, tmp_path):
    out = tmp_path / "new" / "sp1024"
    manifest = fetch(asked(hub), out)
    paths = [MODEL, VALIDATION, *map(train, range(3))]
    called = {path: path.rpartition("/")[2] for path in paths} | {MODEL: "tokenizer.model"}
    assert names(out) == sorted([*called.values(), MANIFEST])
    for path, name in called.items():
        assert (out / name).read_bytes() == hub.files[path]
        about = {"bytes": len(hub.files[path]), "sha256": hashlib.sha256(hub.files[path]).hexdigest()}
        assert manifest["files"][name] == about
        assert manifest["paths"][name] == path
        assert hub.asked(path.rpartition("/")[2]) == [None]  # each once, whole
    assert manifest == json.loads((out / MANIFEST).read_text())
    assert manifest["source"] == {"repo": REPO, "commit": COMMIT, "endpoint": hub.url}
    read_shard(out / "fineweb_val_000000.bin")


def test_the_known_variants_lie_where_they_were_published():
    places = {name: (f.known.repo, f.shards_folder) for name in VARIANTS for f in [Fetch(name)]}
    assert places == {
        "sp1024": ("willdepueoai/parameter-golf", "datasets/datasets/fineweb10B_sp1024"),
        "sp4096": ("kevclark/parameter-golf", "datasets/datasets/fineweb10B_sp4096"),
        "sp8192": ("kevclark/parameter-golf", "datasets/datasets/fineweb10B_sp8192"),
        "sp8192_caseops": (
            "romeerp/parameter-golf-caseops-v1",
            "datasets/datasets/fineweb10B_sp8192_lossless_caps_caseops_v1_reserved",
        ),
    }
    mine = Fetch("byte260", repo="me/mine", prefix="/export/")
    assert (mine.known.repo, mine.shards_folder) == ("me/mine", "export/datasets/fineweb10B_byte260")
    assert Fetch("byte260", repo="me/mine", folder="flat/").shards_folder == "flat"


@pytest.mark.parametrize(("count", "there"), [(0, 0), (1, 1), (2, 2), (None, 3)])
def test_the_first_training_shards_are_fetched_and_all_of_validation(hub, tmp_path, count, there):
    fetch(asked(hub, train_shards=count), tmp_path / "o")
    got = names(tmp_path / "o")
    assert [n for n in got if "train" in n] == [f"fineweb_train_{i:06d}.bin" for i in range(there)]
    assert "fineweb_val_000000.bin" in got


def test_no_more_than_the_challenges_own_number_of_shards_by_default(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TRAIN_SHARDS", 2)
    fetch(asked(hub), tmp_path / "o")
    assert sum("train" in n for n in names(tmp_path / "o")) == 2
    fetch(asked(hub, train_shards=3), tmp_path / "o")
    assert sum("train" in n for n in names(tmp_path / "o")) == 3


def test_what_is_there_is_compared_and_not_fetched_again(hub, tmp_path):
    out = tmp_path / "o"
    fetch(asked(hub, train_shards=1), out)
    before = {f.name: f.stat().st_mtime_ns for f in out.glob("*.bin")}
    hub.log.clear()
    manifest = fetch(asked(hub, train_shards=2), out)
    assert [path for method, path, _ in hub.log if method == "GET"] == ["datasets/manifest.json", train(1)]
    assert {n: (out / n).stat().st_mtime_ns for n in before} == before
    assert set(manifest["files"]) == {n for n in names(out) if n != MANIFEST}


@pytest.mark.parametrize("same_size", [True, False])
def test_another_file_of_the_name_is_not_written_over(hub, tmp_path, same_size):
    out = tmp_path / "o"
    out.mkdir()
    mine = bytes(len(hub.files[train(1)])) if same_size else b"mine"
    (out / "fineweb_train_000001.bin").write_bytes(mine)
    with pytest.raises(DataError, match=r"not written over(.|\n)*train_000001"):
        fetch(asked(hub), out)
    assert names(out) == ["fineweb_train_000001.bin"]
    assert (out / "fineweb_train_000001.bin").read_bytes() == mine
    assert hub.asked("fineweb_train_000000.bin") == []  # refused before anything came


def test_a_manifest_of_another_program_is_not_written_over(hub, tmp_path):
    (tmp_path / MANIFEST).write_text('{"datasets": []}')
    with pytest.raises(DataError, match="another program"):
        fetch(asked(hub), tmp_path)
    assert names(tmp_path) == [MANIFEST]


# ------------------------------------------------------------------------------------- interruptions


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, tmp_path):
    hub.faults[train(1)] = [Fault(cut_at=50_000)]
    fetch(asked(hub), tmp_path / "o")
    first, second = hub.asked("fineweb_train_000001.bin")
    assert first is None
    assert second == f"bytes={50_000 // 8192 * 8192}-"
    assert (tmp_path / "o" / "fineweb_train_000001.bin").read_bytes() == hub.files[train(1)]


def test_a_run_that_fails_leaves_finished_files_and_a_beginning_that_the_next_one_continues(hub, tmp_path):
    out = tmp_path / "o"
    hub.faults[train(2)] = [Fault(cut_at=30_000), Fault(status=503)]
    with pytest.raises(DataError, match=r"hub answers(.|\n)*503(.|\n)*goes on where it stopped"):
        fetch(asked(hub), out)
    assert MANIFEST not in names(out)
    assert "fineweb_train_000002.bin" not in names(out)
    (partial,) = out.glob(".fineweb_train_000002.bin.*.partial")
    begun = partial.stat().st_size
    assert 0 < begun <= 30_000
    assert partial.read_bytes() == hub.files[train(2)][:begun]
    hub.log.clear()
    fetch(asked(hub), out)
    assert hub.asked("fineweb_train_000002.bin") == [f"bytes={begun}-"]
    assert (out / "fineweb_train_000002.bin").read_bytes() == hub.files[train(2)]
    assert not list(out.glob(".*"))


def test_a_process_that_is_killed_leaves_nothing_half_written_and_its_bytes_are_not_fetched_twice(tmp_path):
    """The library writes 10 MiB at a time, so that much of a 24 MB shard is on disk when the process dies."""
    big = shard(12_000_000, 1, tmp_path)
    folder = {MODEL: b"a model" * 400, VALIDATION: shard(300, 2, tmp_path), train(0): big}
    out = tmp_path / "o"
    with HubServer(REPO, folder, bytes_per_second=20e6).running() as server:
        command = [sys.executable, "-m", "pgolf", "data", "fetch", "sp1024", "--out", str(out),
                   "--endpoint", server.url, "--tokenizer-path", MODEL]  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not any(f.stat().st_size > 1 << 20 for f in out.glob(".fineweb_train*.partial")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert "fineweb_train_000000.bin" not in names(out)
        assert MANIFEST not in names(out)
        (partial,) = out.glob(".fineweb_train*.partial")
        begun = partial.stat().st_size
        server.bytes_per_second = 0
        server.log.clear()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert server.asked("fineweb_train_000000.bin") == [f"bytes={begun}-"]
    assert (out / "fineweb_train_000000.bin").read_bytes() == big
    assert not list(out.glob(".*"))
    assert done.stderr.endswith(f"bytes  {len(big):,} of {len(big):,}\n")  # a log has plain lines
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr


def test_bytes_that_are_damaged_on_the_way_are_no_file(hub, tmp_path):
    hub.faults[train(0)] = [Fault(flip_at=60_000)]
    with pytest.raises(DataError, match=r"checksum(.|\n)*train_000000"):
        fetch(asked(hub), tmp_path / "o")
    left = names(tmp_path / "o")
    assert "fineweb_train_000000.bin" not in left
    assert MANIFEST not in left
    assert not any("train_000000" in n for n in left)  # nor kept, to damage the next try
    fetch(asked(hub), tmp_path / "o")
    assert (tmp_path / "o" / "fineweb_train_000000.bin").read_bytes() == hub.files[train(0)]


def partial_of(hub: HubServer, out: Path, i: int, content: bytes) -> Path:
    """What an earlier run would have left of a training shard."""
    out.mkdir(exist_ok=True)
    sha = hashlib.sha256(hub.files[train(i)]).hexdigest()
    (out / f".fineweb_train_{i:06d}.bin.{sha[:16]}.partial").write_bytes(content)
    return out


def test_a_file_that_only_lacked_its_name_is_not_asked_for(hub, tmp_path):
    """Killed between the last byte and the new name."""
    fetch(asked(hub), partial_of(hub, tmp_path / "o", 1, hub.files[train(1)]))
    assert hub.asked("fineweb_train_000001.bin") == []
    assert (tmp_path / "o" / "fineweb_train_000001.bin").read_bytes() == hub.files[train(1)]


def test_the_first_file_that_fails_ends_the_others_where_they_are(hub, tmp_path):
    """At this pace they would take four seconds each."""
    hub.bytes_per_second = 20_000
    hub.faults[train(0)] = [Fault(status=503)]
    began = time.monotonic()
    with pytest.raises(DataError, match="503"):
        fetch(asked(hub), tmp_path / "o")
    assert time.monotonic() - began < 3
    assert not list((tmp_path / "o").glob("*.bin"))


@pytest.mark.parametrize("beginning", ["damaged", "too long"])
def test_a_beginning_that_is_wrong_is_fetched_anew(hub, tmp_path, beginning):
    out = partial_of(hub, tmp_path / "o", 0, b"x" * (20_000 if beginning == "damaged" else 1_000_000))
    seen = []
    fetch(asked(hub), out, lambda activity, done, total: seen.append((activity, done, total)))
    assert (out / "fineweb_train_000000.bin").read_bytes() == hub.files[train(0)]
    assert not list(out.glob(".*"))
    expected = ["bytes=20000-", None] if beginning == "damaged" else [None]
    assert hub.asked("fineweb_train_000000.bin") == expected
    assert seen[-1][1] == seen[-1][2] == sum(len(c) for p, c in hub.files.items() if "manifest" not in p)


def test_a_server_that_cannot_resume_begins_anew(hub, tmp_path):
    hub.ranges = False
    hub.faults[train(0)] = [Fault(cut_at=50_000)]
    seen = []
    fetch(asked(hub), tmp_path / "o", lambda activity, done, total: seen.append(done))
    assert (tmp_path / "o" / "fineweb_train_000000.bin").read_bytes() == hub.files[train(0)]
    assert seen[-1] == max(seen)
    assert any(b < a for a, b in pairwise(seen))  # what was dropped is not counted


def test_beginnings_of_an_older_commits_files_are_cleared_away(hub, tmp_path):
    (tmp_path / ".fineweb_train_000000.bin.0123456789abcdef.partial").write_bytes(b"old")
    fetch(asked(hub), tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_progress_counts_every_byte_once(hub, tmp_path):
    seen = []
    fetch(asked(hub), tmp_path / "o", lambda activity, done, total: seen.append((done, total)))
    total = sum(len(c) for p, c in hub.files.items() if p != "datasets/manifest.json")
    assert {t for _, t in seen} == {total}
    dones = [d for d, _ in seen]
    assert dones == sorted(dones)
    assert (dones[0], dones[-1]) == (0, total)


# ------------------------------------------------------------------------------------------ the disk


def test_too_small_a_disk_is_said_before_anything_comes(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 300_000}))
    with pytest.raises(DataError, match=r"disk has room(.|\n)*300,000 bytes free, 326,908 to come"):
        fetch(asked(hub), tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_what_was_begun_needs_only_room_for_the_rest(hub, tmp_path, monkeypatch):
    out = partial_of(hub, tmp_path / "o", 0, hub.files[train(0)][:50_000])
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 326_908 - 50_000}))
    fetch(asked(hub), out)


def test_what_is_there_needs_no_room(hub, tmp_path, monkeypatch):
    fetch(asked(hub), tmp_path / "o")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 0}))
    fetch(asked(hub), tmp_path / "o")


def test_a_disk_that_fills_up_keeps_what_has_come_for_the_next_try(hub, tmp_path, monkeypatch):
    out, real = tmp_path / "o", module._Counted.write

    def full(self, block):
        if self._tally._done > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, block)

    monkeypatch.setattr(module._Counted, "write", full)
    with pytest.raises(OSError, match="No space left") as raised:
        fetch(asked(hub), out)
    assert raised.value.errno == errno.ENOSPC
    assert MANIFEST not in names(out)
    for name in names(out):
        assert name.endswith(".partial") or (out / name).read_bytes() in hub.files.values()
    monkeypatch.undo()
    fetch(asked(hub), out)
    assert (out / "fineweb_train_000002.bin").read_bytes() == hub.files[train(2)]


def test_one_command_at_a_time_writes_into_a_directory(hub, tmp_path):
    with alone(tmp_path / "o"), pytest.raises(DataError, match="one command at a time"):
        fetch(asked(hub), tmp_path / "o")
    fetch(asked(hub), tmp_path / "o")


# --------------------------------------------------------------------------- what a repository may lack


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        (lambda f: f.pop(train(1)), {}, ["as many shards", "000001", "--train-shards 1"]),
        (lambda f: None, {"train_shards": 9}, ["as many shards", "3 train shards", "--train-shards 3"]),
        (lambda f: f.pop(VALIDATION), {}, ["validation split"]),
        (lambda f: f.pop(MODEL), {}, ["the tokenizer", "fineweb_1024_bpe.model", "--tokenizer-path"]),
        (lambda f: f.update({"datasets/manifest.json": b"{}"}), {}, ["the tokenizer", "--tokenizer-path"]),
        (lambda f: f.update({"datasets/manifest.json": b"{nonsense"}), {}, ["the tokenizer", "--tokenizer-path"]),
        (lambda f: None, {"tokenizer": "nowhere/x.model"}, ["the tokenizer", "nowhere/x.model"]),
        (lambda f: None, {"prefix": "elsewhere"}, ["has shards", "elsewhere/datasets/fineweb10B_sp1024"]),
        (lambda f: None, {"repo": "no/body"}, ["exists on the hub", "no/body", "--repo"]),
        (lambda f: None, {"repo": "no body"}, ["written owner/name", "no body"]),
        (lambda f: None, {"revision": "v9"}, ["branch, tag or commit", "v9", "--revision main"]),
        (lambda f: f.update({train(1): b"not a shard" * 200}), {}, ["begins with 20240520", train(1), "--repo"]),
        (lambda f: f.update({train(1): f[train(1)][:-2]}), {}, ["bytes", train(1), "--repo"]),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_the_way_out(hub, tmp_path, change, more, words):
    change(hub.files)
    with pytest.raises(DataError) as raised:
        fetch(asked(hub, **more), tmp_path / "o")
    for word in words:
        assert word in str(raised.value)
    left = names(tmp_path / "o")
    assert MANIFEST not in left
    assert "fineweb_train_000001.bin" not in left


def test_an_unknown_dataset_names_the_ones_that_are_there(hub, tmp_path):
    with pytest.raises(DataError, match="did you mean 'sp1024'"):
        fetch(Fetch("sp4096", repo=REPO, endpoint=hub.url), tmp_path / "o")


def test_a_hub_that_serves_another_file_than_it_lists_is_not_trusted(hub, tmp_path):
    hub.lists_wrong.add(train(1))
    with pytest.raises(DataError, match="serves the files that it lists"):
        fetch(asked(hub), tmp_path / "o")
    assert "fineweb_train_000001.bin" not in names(tmp_path / "o")


@pytest.mark.parametrize("variant", ["sp8192_caseops", "sp1024"])
def test_byte_sidecars_come_along_and_are_no_shards(files, tmp_path, variant):
    known = VARIANTS[variant]
    folder = f"datasets/datasets/{known.dataset}"
    repo = {f"{folder}/{p.rpartition('/')[2]}": c for p, c in files.items() if p.endswith(".bin")}
    repo[f"{folder}/fineweb_val_bytes_000000.bin"] = files[VALIDATION]
    repo[MODEL] = files[MODEL]
    with HubServer(known.repo, repo).running() as server:
        fetch(Fetch(variant, endpoint=server.url, tokenizer=MODEL), tmp_path / "a")
        assert "fineweb_val_bytes_000000.bin" in names(tmp_path / "a")
        del server.files[f"{folder}/fineweb_val_bytes_000000.bin"]
        missing = Fetch(variant, endpoint=server.url, tokenizer=MODEL)
        if not known.operators:  # then the look-up rule is right, and nothing is missing
            fetch(missing, tmp_path / "b")
            return
        with pytest.raises(DataError, match=r"byte sidecar(.|\n)*0 sidecars for 1 shards"):
            fetch(missing, tmp_path / "b")


def test_the_only_model_beside_the_shards_is_their_tokenizer(hub, tmp_path):
    del hub.files["datasets/manifest.json"]
    hub.files[f"{FOLDER}/own.model"] = b"own"
    assert fetch(asked(hub), tmp_path / "o")["paths"]["tokenizer.model"] == f"{FOLDER}/own.model"


def test_a_stored_login_goes_to_no_address_that_was_named_here(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(asked(hub), tmp_path / "o")
    assert hub.logins == []


def test_without_a_network_the_address_and_the_way_out_are_said(tmp_path):
    with pytest.raises(DataError, match=r"hub answers(.|\n)*127.0.0.1:1(.|\n)*--endpoint"):
        fetch(Fetch("sp1024", endpoint="http://127.0.0.1:1"), tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_machine_that_is_told_to_stay_offline_says_so(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        fetch(asked(hub), tmp_path / "o")


@pytest.mark.parametrize("more", [{"variant": "sp1042"}, {"variant": "sp1024", "train_shards": -1}])
def test_what_cannot_be_fetched_is_refused_before_anybody_is_asked(more):
    with pytest.raises(DataError):
        Fetch(**more)
