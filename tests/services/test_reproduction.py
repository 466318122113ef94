"""Running a trial again uses no cache but the one asked for, and agreement is to the bit."""

import hashlib
import shutil

import pytest
from rich.console import Console

from pgolf.errors import StoreError
from pgolf.formats.result import DeployedTuple, Result, StageResult
from pgolf.recipes import laptop_late
from pgolf.runtime import Runtime
from pgolf.section import Section
from pgolf.stage import Stage, Store
from services.reproduction import compare, render, reproduce
from tests.services.samples import killed

ORDER = ("corpus", "tokenize", "train", "calibrate", "quantize", "pack", "evaluate")


class Lines(Section):
    text: str = "x"


class FakePipeline:
    """Seven chained stages that copy and extend one file; `noise` makes a named stage unrepeatable."""

    def __init__(self, noisy: str | None = None) -> None:
        self.noisy, self.ran, self.calls = noisy, [], 0

    def __call__(self, config, store, runtime):
        artifact, stages = None, {}
        self.ran, self.calls = [], self.calls + 1
        for name in ORDER:
            artifact = Stage(name, 1, self._work(name))(
                store, *([artifact] if artifact else []), runtime=runtime, lines=Lines()
            )
            stages[name] = StageResult(
                key=artifact.key, cached=artifact.cached, seconds=artifact.seconds, metrics=artifact.metrics
            )
        data = (artifact.path / "f").read_bytes()
        bpb = 2.0 + len(data) / 1e6
        return Result(
            name=config.label, config=config.plain(), config_digest=config.digest, seed=config.seed,
            status="ok",
            tuple=DeployedTuple(bpb=bpb, artifact_bytes=len(data), eval_seconds=1.0), stages=stages, bpb=bpb,
            artifact_sha256=hashlib.sha256(data).hexdigest(), artifact_bytes=len(data),
            provenance={"packages": {"torch": "2.11"}, "commit": "c0ffee", "threads": 1},
        )  # fmt: skip

    def _work(self, name):
        def work(*inputs, out, runtime, lines):
            self.ran.append(name)
            before = (inputs[0] / "f").read_text() if inputs else ""
            (out / "f").write_text(before + name + ("!" * self.calls if name == self.noisy else ""))
            return {}

        return work


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_everything_is_run_again_and_agrees(store):
    pipeline = FakePipeline()
    result = pipeline(laptop_late(), store, Runtime())
    found = reproduce(result, store, Runtime(), trial_runner=pipeline)
    assert pipeline.ran == list(ORDER)
    assert found.agree
    assert found.reused == ()
    assert not found.reasons


@pytest.mark.parametrize(
    ("from_stage", "position"), [("train", 2), ("quantize", 4), ("pack", 5), ("evaluate", 6)]
)
def test_from_a_stage_only_it_and_what_follows_is_run_again(store, from_stage, position):
    pipeline = FakePipeline()
    result = pipeline(laptop_late(), store, Runtime())
    found = reproduce(result, store, Runtime(), from_stage, trial_runner=pipeline)
    assert pipeline.ran == list(ORDER[position:])
    assert found.reused == ORDER[:position]
    assert found.agree


def test_a_trial_that_does_not_repeat_itself_is_found_out(store):
    pipeline = FakePipeline(noisy="quantize")
    result = pipeline(laptop_late(), store, Runtime())
    found = reproduce(result, store, Runtime(), trial_runner=pipeline)
    assert not found.same_artifact
    assert not found.same_bpb
    assert not found.agree


def test_the_original_store_is_left_as_it_was(store):
    pipeline = FakePipeline()
    result = pipeline(laptop_late(), store, Runtime())
    before = {f: f.read_bytes() for f in store.directory.rglob("*") if f.is_file()}
    reproduce(result, store, Runtime(), "pack", trial_runner=pipeline)
    assert before == {f: f.read_bytes() for f in store.directory.rglob("*") if f.is_file()}


def test_a_stage_that_is_gone_from_the_store_is_named_with_the_way_round_it(store):
    pipeline = FakePipeline()
    result = pipeline(laptop_late(), store, Runtime())
    key = result.stages["quantize"].key
    shutil.rmtree(store.directory / "quantize" / key)
    with pytest.raises(StoreError, match="--from quantize, or without"):
        reproduce(result, store, Runtime(), "pack", trial_runner=pipeline)
    assert reproduce(result, store, Runtime(), "quantize", trial_runner=pipeline).agree


def test_one_bit_of_the_score_is_a_difference_and_so_is_the_status(store):
    result = FakePipeline()(laptop_late(), store, Runtime())
    assert compare(result, result).agree
    assert not compare(result, result.but(bpb=result.bpb + 2**-50)).agree
    assert not compare(result, result.but(status="infeasible")).agree
    assert not compare(result, result.but(artifact_sha256="0")).agree


def test_what_may_explain_a_difference_is_read_off_the_provenance(store):
    result = FakePipeline()(laptop_late(), store, Runtime())
    moved = {"packages": {"torch": "2.12"}, "commit": "beef", "threads": 2, "dirty": True}
    said = "\n".join(compare(result, result.but(provenance=moved)).reasons)
    for words in (
        "packages torch: 2.11 then, 2.12 now",
        "threads: 1 then, 2 now",
        "commit: c0ffee",
        "uncommitted",
    ):
        assert words in said
    config = {**result.config, "train": {"budget": {"kind": "seconds", "seconds": 5}}}
    assert "seconds, not steps" in compare(result.but(config=config), result).reasons[0]
    stopped = result.but(status="infeasible", infeasible=killed())
    assert "killed at a gate" in compare(stopped, result).reasons[0]


def test_both_tuples_and_the_verdict_are_printed(store):
    result = FakePipeline()(laptop_late(), store, Runtime())
    console = Console(width=90, record=True, quiet=False)
    console.print(render(compare(result, result.but(bpb=result.bpb + 0.1, provenance={}))))
    text = console.export_text()
    assert "They do not agree." in text
    assert "recorded" in text
    assert "torch: 2.11 then, - now" in text
    console.print(render(compare(result, result)))
    assert "They agree." in console.export_text()
