"""The certificate, whole: two processes, one verdict, and a denominator that cannot be inflated."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pgolf.certify.perturb import Probe
from pgolf.certify.report import is_signed, render
from pgolf.certify.stage import CERTIFICATE, CERTIFY, Certify, sample
from pgolf.data.case_marks import CaseMarks
from pgolf.data.case_ops import CaseOps
from pgolf.data.cross_ws import CrossWs
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.evaluate.drive import starts_of
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.stage import VALIDATE
from pgolf.formats.shards import read_shard, write_shard
from pgolf.rules import LAPTOP
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store
from tests.certify.conftest import deploy
from tests.data.hostile import CASED, LESSONS
from tests.nets import stream

CASED_DOCUMENTS = [text.encode() for text in CASED if 1 < len(text) < 20]
PLAN = Sliding(context=16, stride=8)
PROBE = Probe(tokens=48, places=8, draws=1, sums=200, tried=100)


def certificate(deployed, tokens, store):
    """The certificate of the deployed artifact on some tokens, with its metrics."""
    packed, given_ = Artifact.of(deployed.packed), Artifact.of(tokens)
    scored = VALIDATE(store, packed, given_, runtime=Runtime(), evaluate=PLAN)
    how = {"certify": Certify(sample_bytes=120, probe=PROBE), "evaluate": PLAN, "rules": LAPTOP}
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


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(2, 90), documents=st.integers(0, 12), budget=st.integers(1, 90),
       name=st.text("ab", max_size=3))  # fmt: skip
def test_the_sample_is_whole_documents_but_one_in_their_order(seed, length, documents, budget, name):
    ids = stream(seed, length, documents)[0].numpy().astype(np.uint16)
    counts = np.where(ids == 1, 0, 1 + ids % 3).astype(np.uint16)
    part, sizes = sample(ids, counts, name, budget)
    whole = [ids[b:e].tolist() for b, e in spans(ids)]
    taken = [part[b:e].tolist() for b, e in spans(part)]
    cut = [document for document in taken if document not in whole]
    assert len(cut) <= 1
    assert all(any(document == full[: len(document)] for full in whole) for document in cut)
    places = [whole.index(document) for document in taken if document in whole]
    assert len(part) == len(sizes)
    assert places == sorted(places) or len(set(map(tuple, whole))) < len(whole)
    total = int(counts.sum())
    assert int(sizes.sum()) >= min(budget, total), "as much as was asked for, where there is as much"
    assert int(sizes.sum()) < budget + 3 or len(taken) == 1, "and no more than its last token"


def test_another_artifact_is_asked_for_other_documents():
    ids = stream(5, 400, 60)[0].numpy().astype(np.uint16)
    counts = np.where(ids == 1, 0, 2).astype(np.uint16)
    first, again, other = (sample(ids, counts, seed, 60)[0].tolist() for seed in ("a", "a", "b"))
    assert first == again
    assert first != other


def spans(ids: np.ndarray) -> list[tuple[int, int]]:
    starts = starts_of(ids).tolist()
    return list(zip(starts, [*starts[1:], len(ids)], strict=True))
