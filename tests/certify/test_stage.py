"""The certificate, whole: two processes, one verdict, and a denominator that cannot be inflated."""

import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from pgolf.certify.dossier import History
from pgolf.certify.perturb import Probe
from pgolf.certify.report import is_signed, render
from pgolf.certify.stage import CERTIFICATE, CERTIFY, Certify
from pgolf.data.case_marks import CaseMarks
from pgolf.data.case_ops import CaseOps
from pgolf.data.cross_ws import CrossWs
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.stage import VALIDATE
from pgolf.formats.shards import read_shard, write_shard
from pgolf.rules import LAPTOP
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store
from tests.certify.conftest import deploy
from tests.data.hostile import CASED, LESSONS

CASED_DOCUMENTS = [text.encode() for text in CASED if 1 < len(text) < 20]
PLAN = Sliding(context=16, stride=8)
PROBE = Probe(tokens=48, places=8, draws=1, sums=200, tried=100)


def certificate(deployed, tokens, store):
    """The certificate of the deployed artifact on some tokens, with its metrics."""
    packed, given_ = Artifact.of(deployed.packed), Artifact.of(tokens)
    scored = VALIDATE(store, packed, given_, runtime=Runtime(), evaluate=PLAN)
    how = {
        "certify": Certify(sample_bytes=120, probe=PROBE), "evaluate": PLAN, "rules": LAPTOP, "history": History()
    }  # fmt: skip
    made = CERTIFY(store, packed, given_, scored, runtime=Runtime(), **how)
    return json.loads((made.path / CERTIFICATE).read_text()), made.metrics


@pytest.mark.heavy
def test_an_honest_run_is_certified_and_an_inflated_sidecar_is_not(deployed, tmp_path):
    report, metrics = certificate(deployed, deployed.tokens, Store(tmp_path / "store"))
    assert report["verdict"] == "holds", [r for r in report["rules"].values() if r["holds"] is False]
    assert {rule: said["evidence"] for rule, said in report["rules"].items() if said["holds"] is False} == {}
    assert metrics["failed_checks"] == 0
    assert is_signed(report)
    assert abs(metrics["coded_bytes"] - metrics["scored_bytes"]) <= 0.001 * metrics["scored_bytes"] + 64
    console = Console(record=True, width=200)
    console.print(render(report))
    assert "certificate holds" in console.export_text()

    inflated = tmp_path / "given" / "tokens"
    shutil.copytree(deployed.tokens, inflated)
    sidecar = inflated / "validation_bytes_000000.bin"
    counts = np.array(read_shard(sidecar))
    counts[5] += 1
    write_shard(sidecar, counts)
    better, metrics = certificate(deployed, inflated, Store(tmp_path / "store"))
    assert better["validation_bpb"] < report["validation_bpb"], "that is why one would"
    assert better["verdict"] == "fails"
    assert metrics["failed_checks"] == 1
    assert [rule for rule, said in better["rules"].items() if said["holds"] is False] == ["L8"]
    console.print(render(better))
    assert "FAILS" in console.export_text()


@pytest.mark.heavy
@pytest.mark.parametrize("section", [
    CaseMarks(base=CrossWs(base=SpBpe(vocab_size=380))), CaseOps(base=SpOfficial(vocab_size=380)),
], ids=lambda s: f"{s.kind} over {s.base.kind}")  # fmt: skip
def test_a_tokenizer_whose_tokens_have_no_bytes_of_their_own_is_certified(section, tmp_path):
    """The sealed second process has the one model file, and restores the text, capitals and all, from it."""
    made = deploy(tmp_path / "deployed", section.train(LESSONS), [*LESSONS[:12], *CASED_DOCUMENTS])
    report, metrics = certificate(made, made.tokens, Store(tmp_path / "store"))
    assert report["verdict"] == "holds", [r for r in report["rules"].values() if r["holds"] is False]
    assert metrics["text_bytes"] > 40
