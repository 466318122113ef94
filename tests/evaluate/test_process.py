"""The fresh process: the same score bit for bit, and nothing else within reach."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pgolf.evaluate.neural import Neural
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.stage import EVALUATE
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.ledger import check_once, read_ledger
from pgolf.formats.shards import read_split
from pgolf.fresh import WorkerFailed, run_fresh
from pgolf.model.gpt import assemble
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store

ROOT = Path(__file__).resolve().parents[2]
PLAN = Sliding(context=16, stride=5)


def test_it_scores_as_this_process_does_bit_for_bit(packed, tokens, tmp_path):
    made = EVALUATE(
        Store(tmp_path / "store"), Artifact.of(packed), Artifact.of(tokens), runtime=Runtime(), evaluate=PLAN
    )
    artifact = read_artifact(packed / ARTIFACT)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    network = assemble(artifact.model, artifact.vocab_size, artifact.weights(), "cpu")
    here = score(Neural(network), *read_split(tokens, "select"), PLAN)
    torch.set_num_threads(before)
    assert made.metrics["bpb"] == here.bpb
    events, nll = read_ledger(made.path)
    assert (nll == here.nll).all()
    assert check_once(events, len(nll)) is None
    assert made.metrics["val_tokens"] == 299
    assert made.metrics["val_bytes"] == here.bytes
    assert 0 < made.metrics["eval_seconds"] < made.metrics["eval_seconds_strict"]


def test_a_damaged_artifact_is_no_score(packed, tokens, tmp_path):
    cut = tmp_path / ARTIFACT
    cut.write_bytes((packed / ARTIFACT).read_bytes()[:-1])
    shard = tokens / "select_000000.bin"
    given = [
        str(cut),
        "--tokens",
        str(shard),
        "--bytes",
        str(tokens / "select_bytes_000000.bin"),
        "--evaluate",
        json.dumps(PLAN.plain()),
    ]
    with pytest.raises(WorkerFailed, match="cut short or altered"):
        run_fresh("pgolf.evaluate", [*given, "--out", str(tmp_path)], 1)


def test_it_starts_clean_and_elsewhere(monkeypatch, tmp_path):
    """What a variable or the working directory could smuggle in does not arrive."""
    monkeypatch.setenv("PGOLF_SECRET", "1")
    seen = tmp_path / "seen.json"
    look = f"import json, os; open({str(seen)!r}, 'w').write(json.dumps([dict(os.environ), os.listdir()]))"
    run_fresh("timeit", ["-n1", "-r1", look], threads=3)
    variables, files = json.loads(seen.read_text())
    assert "PGOLF_SECRET" not in variables
    assert variables["OMP_NUM_THREADS"] == "3"
    assert files == []


SEALED = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from pgolf.fresh import seal
seal([Path({store!r})], allowed=[Path({store!r}, "given.bin"), Path({store!r}, "out")])
{body}
print("reached")
"""


@pytest.mark.parametrize(("body", "refused"), [
    ("open('{store}/given.bin').read()", None),
    ("Path('{store}/out/new.json').write_text('x')", None),
    ("open('{elsewhere}').read()", None),
    ("open('{store}/train.bin').read()", "may not open"),
    ("open('{store}/given.bin.more').read()", "may not open"),
    ("open('{store}/out/../train.bin').read()", "may not open"),
    ("open('{elsewhere}.link').read()", "may not open"),
    ("import os; os.open('{store}/train.bin', os.O_RDONLY)", "may not open"),
    ("import numpy; numpy.memmap('{store}/train.bin')", "may not open"),
    ("import socket; socket.create_connection(('127.0.0.1', 9))", "may not connect"),
    ("import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')", "may not connect"),
], ids=lambda v: v if isinstance(v, str) else "allowed")  # fmt: skip
def test_the_seal(body, refused, tmp_path):
    store, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    (store / "out").mkdir(parents=True)
    for file in (store / "given.bin", store / "train.bin", store / "given.bin.more", elsewhere):
        file.write_text("x")
    (tmp_path / "elsewhere.link").symlink_to(store / "train.bin")
    body = body.format(store=store, elsewhere=elsewhere)
    script = SEALED.format(root=str(ROOT), store=str(store), body=body)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ("reached" in done.stdout) == (refused is None), done.stderr
    if refused:
        assert refused in done.stderr


def test_a_worker_that_fails_says_why(tmp_path):
    with pytest.raises(WorkerFailed, match="required: artifact"):
        run_fresh("pgolf.evaluate", ["--threads", "8"], 1)


def test_what_is_scored_is_recorded_in_full(packed, tokens, tmp_path):
    given = [str(packed / ARTIFACT), "--tokens", str(tokens / "validation_000000.bin"), "--bytes"]
    given += [
        str(tokens / "validation_bytes_000000.bin"),
        "--evaluate",
        json.dumps(PLAN.plain()),
        "--out",
        str(tmp_path),
    ]
    run_fresh("pgolf.evaluate", [*given, "--sealed", str(packed.parent.parent)], 1)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores.keys() == {
        "bpb",
        "val_tokens",
        "val_bytes",
        "nats_per_token",
        "score_seconds",
        "adapt_seconds",
        "eval_seconds",
        "load_seconds",
        "breakdown",
    }
