"""`pgolf certify` as it is typed: it clears a run that learns while it is scored, and convicts cheats.

The run is recipe `tiny` on the head of its own tokens, so that scoring with adaptation takes seconds.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgolf.certify.report import is_signed
from pgolf.certify.stage import CERTIFICATE, READABLE
from pgolf.certify.trip import sample, scored_bytes
from pgolf.data.source import TOKENIZER, SelectTail, Shards
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.result import Result
from pgolf.formats.shards import read_shard, read_split, shard_name, sidecar_name, write_shard
from pgolf.model.gpt import assemble
from pgolf.pipeline import packed_of, run_trial, tokens_of
from pgolf.recipes import tiny
from pgolf.run import RunConfig, parse_config
from pgolf.runtime import Runtime
from pgolf.stage import Store
from tests.cheats import claims  # noqa: F401 (adds to the zoo)
from tests.cheats.zoo import ZOO

pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("certify-command")]
ROOT = Path(__file__).resolve().parents[2]
HEADS = {"train": 60_000, "validation": 1_500}  # tokens

CHUNK = 32
# the evaluation, the order of its ledger, and the trip that learns: rounds longer than the sample need a second one
ADAPTING: dict[str, tuple[Mode, str, str]] = {
    "a document's adapters and tilt": (
        DocumentChunks(
            context=64, chunk=CHUNK, ttt=DocumentLora(rank=2, alpha=4.0), memory=TokenTilt(orders=(1, 2))
        ),
        "document_independent",
        "round_trip",
    ),
    "the stream's network and tilt": (
        Sliding(
            context=64,
            stride=64,
            ttt=StreamSgd(chunk_tokens=800, sequence_tokens=64, rows=4),
            memory=TokenTilt(orders=(1, 2), document=False, share_documents=True, round_tokens=800),
        ),
        "stream",
        "round_trip_narrowed",
    ),
}


@pytest.fixture(scope="module")
def given(tiny_tokens, tmp_path_factory) -> RunConfig:
    """The recipe on the head of its tokens."""
    home = tmp_path_factory.mktemp("heads")
    for split, length in HEADS.items():
        for name in (shard_name(split), sidecar_name(split)):
            write_shard(home / name, read_shard(tiny_tokens / name)[:length])
    shutil.copyfile(tiny_tokens / TOKENIZER, home / TOKENIZER)
    files = {
        name: str(home / file) for name, file in (("train", "train_0*"), ("validation", "validation_0*"))
    }
    data = Shards(**files, tokenizer=str(home / TOKENIZER), select=SelectTail(select_tokens=4_000))
    return tiny().but(data=data)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("certify") / "store"


@pytest.mark.parametrize("name", ADAPTING)
def test_a_run_that_learns_while_it_is_scored_is_cleared(name, given, store, tmp_path):
    evaluate, order, learning = ADAPTING[name]
    result = run_trial(given.but(evaluate=evaluate), Store(store), Runtime())
    assert result.adapted_bpb != result.quantized_bpb
    result.write(tmp_path / "result.json")
    report = certified(tmp_path, "--store", store, exit_code=0)
    assert report["verdict"] == "holds"
    assert is_signed(report)
    assert report["order"] == order
    assert report["evaluate"] == evaluate.plain()
    assert {said["holds"] for said in report["rules"].values()} == {True, None}
    assert report["rules"]["L13"]["holds"] and report["rules"]["L15"]["holds"], "how it was made is known"
    assert {trip for trip in report if trip.startswith("round_trip")} == {"round_trip", learning}
    for trip in (report["round_trip"], report[learning]):
        assert trip["sample_tokens"] > 2 * CHUNK
        assert abs(trip["coded_bytes"] - trip["scored_bytes"]) <= 0.001 * trip["scored_bytes"] + 64
    assert report[learning]["coded_bytes"] < 0.9 * unlearned_bytes(result, Store(store))
    assert json.loads((tmp_path / CERTIFICATE).read_text()) == report
    assert "certificate holds" in (tmp_path / READABLE).read_text()


def unlearned_bytes(result: Result, store: Store) -> float:
    """What the sample of a result's certificate takes where nothing is learned from it."""
    config, (packed, tokens) = (
        parse_config(result.config),
        (packed_of(result, store), tokens_of(result, store)),
    )
    artifact = read_artifact(packed.path / ARTIFACT)
    network = assemble(artifact.model, artifact.vocab_size, artifact.weights(), "cpu")
    split = read_split(tokens.path, "validation")
    part = sample(*split, result.artifact_sha256, config.certify.sample_bytes)
    mode = config.evaluate.plain_mode
    return scored_bytes(mode.predictor(network), mode, part)


@pytest.mark.parametrize("name", [
    "operators_counted_as_text_in_a_log", "told_before_it_was_scored", "ending_the_examination",
])  # fmt: skip
def test_a_cheat_is_convicted_by_its_rules(name, tmp_path):
    """A log, a ledger, and a predictor of the zoo, as their claims lie on disk."""
    ZOO[name].made(tmp_path)
    report = certified(tmp_path / "claim.json", exit_code=1)
    assert report["verdict"] == "fails"
    assert is_signed(report)
    assert {rule for rule, said in report["rules"].items() if said["holds"] is False} == set(ZOO[name].rules)


def certified(subject: Path, *options: object, exit_code: int) -> dict[str, Any]:
    """The report that the command prints."""
    command = [sys.executable, "-m", "pgolf", "certify", subject, *options, "--json"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return dict(json.loads(done.stdout))
