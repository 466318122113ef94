"""A trial with a step budget, run again from nothing, is the same trial to the last bit."""

import pytest

from pgolf.run import parse_config
from pgolf.runtime import Runtime
from pgolf.stage import Store


@pytest.mark.heavy
def test_a_fresh_store_comes_to_the_same_artifact_and_the_same_score(tiny_trial, tmp_path):
    from pgolf.pipeline import run_trial

    config = parse_config(tiny_trial.result.config)
    again = run_trial(config, Store(tmp_path / "fresh"), Runtime())
    assert not any(stage.cached for stage in again.stages.values())
    assert again.artifact_sha256 == tiny_trial.result.artifact_sha256
    assert again.bpb == tiny_trial.result.bpb
    assert again.prequant_bpb == tiny_trial.result.prequant_bpb
    assert {n: s.key for n, s in again.stages.items()} == {
        n: s.key for n, s in tiny_trial.result.stages.items()
    }
