"""Killed in the middle of an evaluation: nothing is published, and the rerun starts clean."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.stage import EVALUATE
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store

ROOT = Path(__file__).resolve().parents[2]
MODE = DocumentChunks(context=16, chunk=1, ttt=DocumentLora(rank=2, alpha=4.0, lr=0.01))
CHILD = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store
from tests.evaluate.test_killed import EVALUATE, MODE
def said(step, metrics):
    print("progress", flush=True)
EVALUATE(Store({store!r}), Artifact.of(Path({packed!r})), Artifact.of(Path({tokens!r})),
         runtime=Runtime(report=said), evaluate=MODE)
"""


@pytest.mark.heavy
def test_killed_in_the_middle_nothing_is_published_and_the_rerun_is_whole(packed, tokens, tmp_path):
    store = Store(tmp_path / "store")
    script = CHILD.format(
        root=str(ROOT), store=str(tmp_path / "store"), packed=str(packed), tokens=str(tokens)
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout.readline().strip() == "progress", "the fresh process is scoring"
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "store" / EVALUATE.name).exists()
    time.sleep(0.1)
    given = Artifact.of(packed), Artifact.of(tokens)
    again = EVALUATE(store, *given, runtime=Runtime(), evaluate=MODE)
    assert not again.cached
    elsewhere = EVALUATE(Store(tmp_path / "other"), *given, runtime=Runtime(), evaluate=MODE)
    assert again.metrics["bpb"] == elsewhere.metrics["bpb"]
    assert {f.name for f in again.path.iterdir()} == {f.name for f in elsewhere.path.iterdir()}
