"""A run of pgolf's own, from its stages' directories: cleared, and each forgery of them convicted by its rule."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pgolf.certify.checks import examine
from pgolf.certify.checks.data import no_training_data_at_evaluation, no_validation_data_before
from pgolf.certify.dossier import Dossier, History, Opening
from pgolf.certify.perturb import Probe
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.ledger import read_ledger, write_ledger
from pgolf.formats.shards import read_shard, read_split, write_shard
from pgolf.model.gpt import assemble
from pgolf.rules import PARAMETER_GOLF
from pgolf.watch import Watch

MODE = Sliding(context=16, stride=8)
PROBE = Probe(tokens=36, places=4, draws=1, sums=200)
HISTORY = History(train_seconds=590.0, eval_seconds_strict=601.0, opened=(
    Opening(file="train_000000.bin", stage="train"), Opening(file="select_000000.bin", stage="train"),
    Opening(file="train_000000.bin", stage="calibrate"),
))  # fmt: skip


@pytest.fixture(scope="module")
def scored(deployed, tmp_path_factory) -> Path:
    """The ledger that the evaluation of the deployed artifact leaves."""
    home = tmp_path_factory.mktemp("scored")
    packed = read_artifact(deployed.packed / ARTIFACT)
    network = assemble(packed.model, packed.vocab_size, packed.weights(), "cpu")
    found = score(Neural(network), *read_split(deployed.tokens, "validation"), MODE)
    return kept(home, deployed, found.events, found.nll)


def kept(home, deployed, events, nll) -> Path:
    """Scores as an evaluation leaves them."""
    write_ledger(home, events, nll)
    size = int(read_split(deployed.tokens, "validation")[1][1:].sum())
    said = {
        "bpb": nll.sum() / math.log(2) / size,
        "nats_per_token": nll.sum() / (len(nll) - 1),
        "eval_seconds": 1.0,
    }
    said |= {"val_tokens": len(nll) - 1, "val_bytes": size}
    (home / "scores.json").write_text(json.dumps(said))
    return home


def verdicts(deployed, scored, tokens=None, **more) -> dict[str, bool | None]:
    rules = PARAMETER_GOLF.but(artifact_bytes=more.pop("cap", 16_000_000))
    more = {"history": HISTORY, **more}
    made = Dossier.of_run(
        deployed.packed, tokens or deployed.tokens, scored, MODE, probe=PROBE, rules=rules, **more
    )
    return {v.rule: v.holds for v in examine(made)}


def convictions(found) -> set[str]:
    return {rule for rule, holds in found.items() if holds is False}


@pytest.fixture
def copied(deployed, tmp_path) -> Path:
    home = tmp_path / "tokens"
    shutil.copytree(deployed.tokens, home)
    return home


def test_an_honest_run_is_cleared_by_every_rule_that_applies(deployed, scored):
    found = verdicts(deployed, scored)
    assert not convictions(found)
    unjudged = {rule for rule, holds in found.items() if holds is None}
    assert unjudged == {"L11", "L18", "L19", "L21", "X3", "X4"}


def test_what_was_opened_to_make_it_is_not_taken_for_what_its_evaluation_opened():
    told = Dossier(opened=HISTORY.opened)
    assert no_training_data_at_evaluation(told).holds is None
    watched = Opening(file="train_000000.bin", stage="evaluate")
    assert no_training_data_at_evaluation(replace(told, opened=(*told.opened, watched))).holds is False
    assert no_validation_data_before(told).holds
    for opened in ((), None):
        nobody = no_validation_data_before(replace(told, opened=opened))
        assert nobody.holds is None
        assert "nothing to run" in nobody.evidence


def test_what_nobody_told_of_how_it_was_made_is_not_vouched_for(deployed, scored):
    found = verdicts(deployed, scored, history=History())
    assert not convictions(found)
    assert found["L13"] is found["L15"] is None


@pytest.mark.parametrize("stage", ["train", "calibrate", "quantize", "pack"])
def test_a_validation_shard_that_was_opened_to_make_it_is_found_in_its_history(deployed, scored, stage):
    early = (*HISTORY.opened, Opening(file="validation_000000.bin", stage=stage))
    assert convictions(verdicts(deployed, scored, history=HISTORY.but(opened=early))) == {"L13"}


def test_training_that_went_on_for_too_long_is_found_in_its_history(deployed, scored):
    assert convictions(verdicts(deployed, scored, history=HISTORY.but(train_seconds=600.5))) == {"L15"}


def test_an_inflated_sidecar(deployed, scored, copied):
    sidecar = copied / "validation_bytes_000000.bin"
    counts = np.array(read_shard(sidecar))
    counts[5] += 1
    write_shard(sidecar, counts)
    assert convictions(verdicts(deployed, scored, copied)) == {"L8"}


def test_scores_that_another_network_made(deployed, scored, tmp_path):
    events, nll = read_ledger(scored)
    assert convictions(verdicts(deployed, kept(tmp_path, deployed, events, 0.8 * nll))) == {"L20"}


def test_a_ledger_that_scores_twice(deployed, scored, tmp_path):
    events, nll = read_ledger(scored)
    twice = kept(tmp_path, deployed, np.concatenate([events, events[-1:]]), nll)
    assert convictions(verdicts(deployed, twice)) == {"L6"}


def test_an_artifact_over_the_cap(deployed, scored):
    size = (deployed.packed / ARTIFACT).stat().st_size
    assert convictions(verdicts(deployed, scored, cap=size - 1)) == {"L14"}
    assert not convictions(verdicts(deployed, scored, cap=size))


def test_training_text_in_the_validation_split(deployed, scored, copied):
    """The training shard begins with all of validation."""
    ids = np.concatenate(
        [np.asarray(read_shard(copied / f"{s}_000000.bin")) for s in ("validation", "train")]
    )
    write_shard(copied / "train_000000.bin", ids)
    assert convictions(verdicts(deployed, scored, copied)) == {"L10"}


def test_the_watch_sees_files_connections_and_programs_of_its_own_block_alone(tmp_path):
    import socket
    import subprocess
    import sys

    file, other = tmp_path / "a.bin", tmp_path / "b.bin"
    file.write_bytes(b"x")
    other.write_bytes(b"x")
    watch = Watch()
    with watch.during("load"):
        np.memmap(file)
        with watch.during("evaluate"):
            file.read_bytes()
            with pytest.raises(PermissionError, match="no network"):
                socket.create_connection(("127.0.0.1", 9), timeout=0.1)
        subprocess.run([sys.executable, "-c", "pass"], check=True)
    other.read_bytes()
    assert ("load", str(file)) in watch.opened
    assert ("evaluate", str(file)) in watch.opened
    assert not [f for _, f in watch.opened if f == str(other)]
    assert any("127.0.0.1" in to for to in watch.connections)
    assert [Path(p) for p in watch.started] == [Path(sys.executable)]
