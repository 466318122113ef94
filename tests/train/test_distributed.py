"""Two ranks under torchrun are one run: the same loss, the same weights, and they stop together."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pgolf.formats.result import Result
from pgolf.runtime import Runtime
from pgolf.train import loop
from tests.train.gang import train

ROOT = Path(__file__).resolve().parents[2]


def torchrun(*arguments: str, cwd: Path = ROOT, succeeds: bool = True) -> str:
    """Two gloo ranks on the loopback device; what they wrote to stderr."""
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*command, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=180
    )
    assert (done.returncode == 0) is succeeds, done.stderr[-3000:]
    return done.stderr


def ends(tokens: Path, out: Path, mode: str) -> list[dict[str, object]]:
    torchrun("tests.train.gang", str(tokens), str(out), mode)
    return [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.heavy
def test_two_ranks_come_to_the_losses_and_the_weights_of_one(tokens, tmp_path, monkeypatch):
    """Twenty steps with all that ranks share: shards, averages, clipping, switches, packed rows."""
    losses: list[float] = []
    monkeypatch.setattr(loop, "REPORT_SECONDS", -1.0)
    listening = Runtime(report=lambda _, metrics: losses.append(metrics["train_loss"]))
    alone = train(tokens, tmp_path / "one", listening)
    first, second = ends(tokens, tmp_path / "two", "train")
    assert len(losses) == 20
    assert first["losses"] == pytest.approx(losses, rel=1e-5)
    assert losses[-1] < 0.9 * losses[0], "and they learn"
    for rank in (first, second):
        assert rank["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert rank["steps"] == alone["steps"]
    one, two = (np.load(tmp_path / at / "weights.npz") for at in ("one", "two/rank0"))
    for name in one.files:
        assert np.allclose(one[name], two[name], atol=1e-4), name
    assert not list((tmp_path / "two" / "rank1").iterdir()), "rank 0 alone writes"


@pytest.mark.heavy
@pytest.mark.parametrize("mode", ["gate", "hush"])
def test_ranks_stop_together(tokens, tmp_path, mode):
    """Without agreement the second rank would wait for gradients that never come."""
    for rank in ends(tokens, tmp_path / mode, mode):
        assert rank["stopped"] == "gate"
        assert len(rank["begun"]) == {"gate": 5, "hush": 2}[mode], (
            "at the probe; one step after an unforeseen word"
        )


@pytest.mark.heavy
def test_ranks_share_one_clock(tokens, tmp_path):
    """Rank 1 believes the time is long up: every step begins at the same progress on both all the same."""
    first, second = ends(tokens, tmp_path / "clock", "clock")
    assert first["begun"] == second["begun"]
    assert first["steps"] == second["steps"] > 1
    assert first["begun"] == sorted(first["begun"])
    assert 0.0 == first["begun"][0] < first["begun"][-1] < 1.0


@pytest.mark.heavy
def test_a_rank_that_fails_ends_the_run_with_its_traceback(tokens, tmp_path):
    began = time.monotonic()
    stderr = torchrun("tests.train.gang", str(tokens), str(tmp_path / "crash"), "crash", succeeds=False)
    assert "PlannedFailure: as planned" in stderr
    assert time.monotonic() - began < 90, "with the start of two processes"
    assert not list((tmp_path / "crash").glob("rank*/*"))


@pytest.mark.heavy
def test_a_whole_trial_runs_under_torchrun(tiny_trial, tmp_path):
    """From the tokens on: trained by two ranks, deployed by one, to the result of one rank."""
    for stage in ("corpus", "tokenize"):
        shutil.copytree(tiny_trial.stage(stage).parent, tmp_path / "store" / stage)
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps(tiny_trial.config.plain()))
    torchrun(
        "pgolf", "run", str(config), "--set", "rules.gang.ranks=2", "--store", str(tmp_path / "store"),
        "--out", str(tmp_path / "out"), cwd=tmp_path,
    )  # fmt: skip
    result = Result.read(tmp_path / "out" / "result.json")
    assert result.status == "ok"
    assert result.provenance["ranks"] == 2
    trained = [r.stages["train"].metrics["final_train_loss"] for r in (result, tiny_trial.result)]
    assert trained[0] == pytest.approx(trained[1], rel=1e-4)
    assert result.prequant_bpb == pytest.approx(tiny_trial.result.prequant_bpb, rel=1e-4)
    one = np.load(tiny_trial.stage("train") / "weights.npz")
    two = np.load(tmp_path / "store" / "train" / result.stages["train"].key / "weights.npz")
    for name in one.files:
        assert np.allclose(one[name], two[name], atol=2e-3), name
