"""The certificate, whole: two processes, one verdict, and a denominator that cannot be inflated."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pgolf.certify.report import render
from pgolf.certify.stage import CERTIFICATE, CERTIFY, Certify, sample
from pgolf.data.case_marks import CaseMarks
from pgolf.data.case_ops import CaseOps
from pgolf.data.cross_ws import CrossWs
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.stage import VALIDATE
from pgolf.formats.shards import read_shard, write_shard
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store
from tests.certify.conftest import deploy
from tests.data.hostile import CASED, LESSONS
from tests.nets import stream

CASED_DOCUMENTS = [text.encode() for text in CASED if 1 < len(text) < 20]
PLAN = Sliding(context=16, stride=8)


def certificate(deployed, tokens, store):
    """The certificate of the deployed artifact on some tokens, with its metrics."""
    packed, given_ = Artifact.of(deployed.packed), Artifact.of(tokens)
    scored = VALIDATE(store, packed, given_, runtime=Runtime(), evaluate=PLAN)
    made = CERTIFY(store, packed, given_, scored, runtime=Runtime(), certify=Certify(sample_tokens=60))
    return json.loads((made.path / CERTIFICATE).read_text()), made.metrics


@pytest.mark.heavy
def test_an_honest_run_is_certified_and_an_inflated_sidecar_is_not(deployed, tmp_path):
    report, metrics = certificate(deployed, deployed.tokens, Store(tmp_path / "store"))
    assert report["verdict"] == "holds"
    assert set(report["checks"].values()) == {"holds"}
    assert metrics["failed_checks"] == 0
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
    assert "are counted" in better["checks"]["bytes_are_the_text"]
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
    assert set(report["checks"].values()) == {"holds"}
    assert metrics["sample_tokens"] > 50
    assert metrics["text_bytes"] > 40


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(2, 90), documents=st.integers(0, 12), budget=st.integers(1, 60),
       context=st.integers(2, 12), data=st.data())  # fmt: skip
def test_the_sample_sees_each_target_as_the_scorer_did(seed, length, documents, budget, context, data):
    """Every target once, from the scorer's window cut at the document's beginning."""
    plan = Sliding(context=context, stride=data.draw(st.integers(1, context)))
    ids = stream(seed, length, documents)[0].numpy().astype(np.uint16)
    windows = plan.plan(length)
    begins = {t: c for c, b, e in windows.tolist() for t in range(b, e)}
    chosen = sample(ids, windows, budget)
    assert sum(p["length"] for p in chosen) <= budget
    for part in chosen:
        at, seen = part["at"], {}
        assert ids[at] == 1
        assert part["tokens"] == ids[at : at + part["length"] + 1].tolist()
        for context_begin, begin, end in part["windows"]:
            for target in range(begin, end):
                assert target not in seen
                seen[target] = context_begin
        assert seen == {t: max(begins[at + t] - at, 0) for t in range(1, part["length"] + 1)}


def test_the_shortest_documents_are_sampled_first():
    ids = np.array([1, 5, 5, 5, 5, 1, 5, 5, 1, 5, 5, 5], dtype=np.uint16)
    chosen = sample(ids, PLAN.plan(len(ids)), budget=6)
    assert [(p["at"], p["length"]) for p in chosen] == [(5, 2), (8, 3), (0, 1)]
    assert math.isclose(sum(p["length"] for p in chosen), 6)
