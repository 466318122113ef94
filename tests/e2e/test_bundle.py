"""The exported file where nothing of pgolf is: a clean virtual environment, no network, no training data.

The environment holds torch, numpy, sentencepiece, brotli, constriction and what these need, by links to the
packages of this one. Of files there are the exported script, the artifact and one split's shards.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("clean")]
ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ("torch", "numpy", "sentencepiece", "brotli", "constriction")
ABSENT = ("pgolf", "pydantic", "jaxtyping", "ray", "mlflow", "optuna", "yaml", "typer", "python_minifier")
SITE = """
import os, sys
forbidden = os.environ["OUT_OF_REACH"].split(os.pathsep)
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(args[0]))
        if any(path == root or path.startswith(root + os.sep) for root in forbidden):
            raise PermissionError(f"out of reach: {path}")
    elif event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        raise PermissionError(f"no network: {event}")
sys.addaudithook(hook)
"""


def needed(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """An installed package and all that it requires here."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return found
    if package.metadata["Name"] not in found:
        found[package.metadata["Name"]] = package
        for line in package.requires or ():
            required = Requirement(line)
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                needed(required.name, found)
    return found


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """The Python of an environment that has only what is allowed."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(home, symlinks=True, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    packages: dict[str, Distribution] = {}
    for name in INSTALLED:
        needed(name, packages)
    for package in packages.values():
        tops = {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in sorted(tops):
            source = Path(str(package.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source.resolve())
    (site / "sitecustomize.py").write_text(SITE)
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def exported(tiny_trial, tmp_path_factory) -> Path:
    """What `pgolf export` writes of the tiny trial's result.json."""
    home = tmp_path_factory.mktemp("exported")
    tiny_trial.result.write(home / "given" / "result.json")
    done = subprocess.run(
        [sys.executable, "-m", "pgolf", "export", str(home / "given"), "--out", str(home / "out"),
         "--store", tiny_trial.store.root, "--json"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["agrees"] is True
    assert answer["scored_bpb"] == tiny_trial.result.bpb
    return home / "out"


def run_clean(
    python: Path, arguments: list[str], cwd: Path, tiny_trial
) -> "subprocess.CompletedProcess[str]":
    """In the clean environment, and in a network namespace with nothing in it where the system gives one."""
    probe = (
        subprocess.run(["unshare", "-rn", "true"], capture_output=True) if shutil.which("unshare") else None
    )
    alone = ["unshare", "-rn"] if probe is not None and probe.returncode == 0 else []
    out_of_reach = [
        str(Path(tiny_trial.store.root).resolve()),
        *(str(ROOT / name) for name in ("pgolf", "tests")),
    ]
    env = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "OUT_OF_REACH": os.pathsep.join(out_of_reach)}
    return subprocess.run([*alone, str(python), *arguments], cwd=cwd, env=env, capture_output=True, text=True)


def test_the_environment_has_what_is_allowed_and_nothing_else(clean, tiny_trial, tmp_path):
    look = "import importlib.util as u, json; print(json.dumps([m for m in {} if u.find_spec(m)]))"
    here = json.loads(run_clean(clean, ["-c", look.format(ABSENT + INSTALLED)], tmp_path, tiny_trial).stdout)
    assert tuple(here) == INSTALLED


@pytest.mark.parametrize("forbidden", [
    "open({store!r} + '/out.json', 'w')", "open({pgolf!r}).read()", "import os; os.open({pgolf!r}, os.O_RDONLY)",
    "import socket; socket.create_connection(('127.0.0.1', 9))",
    "import urllib.request; urllib.request.urlopen('http://example.org')",
])  # fmt: skip
def test_the_store_the_sources_and_the_network_are_out_of_reach(forbidden, clean, tiny_trial, tmp_path):
    code = forbidden.format(store=tiny_trial.store.root, pgolf=str(ROOT / "pgolf" / "cli.py"))
    done = run_clean(clean, ["-c", code], tmp_path, tiny_trial)
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize("split", ["select", "validation"])
def test_the_exported_file_comes_to_the_score_on_record_bit_for_bit(
    split, clean, exported, tiny_trial, tmp_path
):
    tokens = tiny_trial.stage("tokenize")
    given = {exported / "train_gpt.py", exported / "artifact.bin", *tokens.glob(f"{split}_*.bin")}
    for file in given:
        shutil.copyfile(file, tmp_path / file.name)
    arguments = ["train_gpt.py", "--artifact", "artifact.bin", "--tokens", f"{split}_000000.bin"]
    arguments += ["--bytes", f"{split}_bytes_000000.bin", "--out", "scores.json"]
    done = run_clean(clean, arguments, tmp_path, tiny_trial)
    assert done.returncode == 0, done.stderr[-3000:]
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert json.loads(done.stdout) == scores
    recorded = json.loads((exported / "result.json").read_text())
    if split == "select":
        assert {name: scores[name] for name in ("bpb", "nats_per_token", "val_tokens", "val_bytes")} == {
            name: recorded[name] for name in ("bpb", "nats_per_token", "val_tokens", "val_bytes")
        }
    else:
        assert scores["bpb"] == tiny_trial.validated.validation_bpb
    assert {file.name for file in tmp_path.iterdir()} == {*(file.name for file in given), "scores.json"}


def test_the_counted_bytes_are_the_files_on_disk(exported, tiny_trial):
    assert (exported / "train_gpt.py").stat().st_size == tiny_trial.result.code_bytes
    assert (exported / "artifact.bin").stat().st_size == tiny_trial.result.model_bytes
