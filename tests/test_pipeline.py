"""One trial, whole: what it leaves behind, what it re-uses, and how it ends when a budget breaks."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgolf.data.source import TOKENIZER
from pgolf.errors import Infeasible, InfeasibleTrial, StoreError
from pgolf.estimate import IMPOSSIBLE, estimate
from pgolf.formats.blob import ARTIFACT
from pgolf.formats.result import METRICS, Result
from pgolf.optim.muon import Muon
from pgolf.pack.bundle import BUNDLE
from pgolf.pipeline import attachments, certificate_of, run_trial, validate
from pgolf.quantize.rtn import Rtn
from pgolf.run import with_settings
from pgolf.runtime import Runtime
from pgolf.stage import Store, sha256_of
from pgolf.train.budget import Hardware, Seconds, Steps

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).resolve().parents[1]
NEVER_HERE = {"adapted_bpb", "validation_bpb"}  # no adaptation yet; validation is for finalists


@pytest.fixture
def store(tiny_trial, tmp_path) -> Store:
    """The finished trial's store, copied: a test may write to it."""
    shutil.copytree(tiny_trial.store.directory, tmp_path / "store")
    return Store(tmp_path / "store")


def test_every_contract_metric_is_measured(tiny_trial):
    result = tiny_trial.result
    assert result.status == "ok", result.infeasible
    assert result.metrics().keys() == set(METRICS) - NEVER_HERE
    counted = {"val_tokens", "val_bytes", "model_bytes", "code_bytes", "artifact_bytes", "tokenizer_bytes",
               "params", "steps", "train_tokens", "peak_memory_bytes"}  # fmt: skip
    for name, value in result.metrics().items():
        assert type(value) is (int if name in counted else float), name
        assert value > 0, name


def test_the_numbers_agree_with_one_another(tiny_trial):
    r = tiny_trial.result
    assert r.quantized_bpb == r.bpb == r.tuple.bpb
    assert r.artifact_bytes == r.model_bytes + r.code_bytes == r.tuple.artifact_bytes
    assert r.eval_seconds == r.tuple.eval_seconds < r.eval_seconds_strict
    assert r.nats_per_token * r.val_tokens == pytest.approx(r.bpb * r.val_bytes * 0.6931471805599453)
    assert r.steps == 12
    assert r.train_tokens == 12 * 1024
    assert r.train_seconds == pytest.approx(
        r.stages["train"].metrics["train_seconds"] + r.stages["calibrate"].metrics["train_seconds"]
    )
    assert abs(r.prequant_bpb - r.bpb) < 0.05, "7 and 6 bits cost little"
    artifact = tiny_trial.stage("pack") / ARTIFACT
    assert r.model_bytes == artifact.stat().st_size
    assert r.artifact_sha256 == sha256_of(artifact)
    assert r.code_bytes == (tiny_trial.stage("bundle") / BUNDLE).stat().st_size
    assert r.tokenizer_bytes == (tiny_trial.stage("tokenize") / TOKENIZER).stat().st_size


def test_the_result_is_its_own_record(tiny_trial, tmp_path):
    tiny_trial.result.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == tiny_trial.result
    assert tiny_trial.result.config_digest == tiny_trial.config.digest
    assert tiny_trial.result.provenance["data"].keys() == {"corpus", "tokenize"}


def test_stages_come_in_order_and_are_told(tiny_trial, store):
    order = ["corpus", "tokenize", "train", "calibrate", "bundle", "quantize", "pack", "prequant", "evaluate"]
    assert list(tiny_trial.result.stages) == order
    told = []
    again = run_trial(tiny_trial.config, store, Runtime(report=lambda step, m: told.append((step, list(m)))))
    assert told == [(-1, [f"stage_done/{name}"]) for name in order], (
        "nothing was trained, everything was told"
    )
    assert all(stage.cached for stage in again.stages.values())
    assert again.tuple == tiny_trial.result.tuple
    assert again.metrics() == tiny_trial.result.metrics()


def test_another_quantizer_trains_nothing_again(tiny_trial, store):
    config = tiny_trial.config.but(quantize=Rtn(grids=tiny_trial.config.quantize.grids), calibrate=None)
    result = run_trial(config, store, Runtime())
    cached = {name for name, stage in result.stages.items() if stage.cached}
    assert cached == {"corpus", "tokenize", "train", "bundle", "prequant"}
    assert "calibrate" not in result.stages
    assert result.artifact_sha256 != tiny_trial.result.artifact_sha256
    assert result.prequant_bpb == tiny_trial.result.prequant_bpb


def test_over_the_byte_cap_is_an_outcome_and_is_not_scored(tiny_trial, store):
    size = tiny_trial.result.artifact_bytes
    rules = tiny_trial.config.rules.but(artifact_bytes=size - 1)
    result = run_trial(tiny_trial.config.but(rules=rules), store, Runtime())
    assert result.status == "infeasible"
    assert result.infeasible == [Infeasible(reason="artifact_bytes", measured=size, limit=size - 1)]
    assert result.artifact_bytes == size
    assert result.prequant_bpb == tiny_trial.result.prequant_bpb, "measured before the verdict"
    assert "evaluate" not in result.stages
    assert result.bpb is None
    assert result.eval_seconds is None


def solved_for(cap: int, *settings: str) -> list[str]:
    """Settings of a trial whose steps are solved for this cap."""
    return ["quantize={kind: rate_distortion}", "calibrate.fisher={tokens: 2048}",
            f"rules.artifact_bytes={cap}", *settings]  # fmt: skip


@pytest.mark.parametrize(("packer", "less"), [("ans", 8_000), ("brotli", 14_000)])
def test_a_trial_solved_for_bytes_ends_within_a_kilobyte_under_the_cap(tiny_trial, store, packer, less):
    cap = tiny_trial.result.artifact_bytes - less
    config = with_settings(tiny_trial.config, solved_for(cap, f"pack={{kind: {packer}}}"))
    result = run_trial(config, store, Runtime())
    assert result.status == "ok", result.infeasible
    assert cap - 1000 < result.artifact_bytes <= cap
    assert result.stages["train"].cached, "a cap decides nothing before the codes"
    assert abs(result.bpb - result.prequant_bpb) < 0.2


def test_a_cap_that_leaves_no_room_for_codes_is_an_outcome(tiny_trial, store):
    """The least cap that is not refused untrained: code, float16 values and steps take more."""
    least = estimate(with_settings(tiny_trial.config, solved_for(1))).predicted_artifact_bytes
    cap = int(least / IMPOSSIBLE["artifact_bytes"]) + 1
    result = run_trial(with_settings(tiny_trial.config, solved_for(cap)), store, Runtime())
    (outcome,) = result.infeasible
    assert (result.status, outcome.reason, outcome.limit) == ("infeasible", "artifact_bytes", cap)
    assert outcome.measured > cap
    assert "pack" not in result.stages and result.bpb is None


def test_the_command_lands_on_the_cap_too(tiny_trial, store, tmp_path):
    cap = tiny_trial.result.artifact_bytes - 10_000
    words = [w for s in solved_for(cap, "pack={kind: ans}") for w in ("--set", s)]
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "pgolf", "run", "tiny", *words, "--store", store.root, "--out", str(out)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = Result.read(out / "result.json")
    assert result.status == "ok"
    assert cap - 1000 < result.artifact_bytes <= cap
    assert result.artifact_bytes == result.model_bytes + result.code_bytes


def test_what_is_predicted_to_miss_a_cap_by_far_is_refused_untrained(tiny_trial, tmp_path):
    rules = tiny_trial.config.rules.but(artifact_bytes=1000)
    result = run_trial(tiny_trial.config.but(rules=rules), Store(tmp_path), Runtime())
    (outcome,) = result.infeasible
    assert (outcome.reason, outcome.limit) == ("predicted_artifact_bytes", 1000)
    assert result.stages == {} and result.artifact_bytes is None
    assert list(tmp_path.iterdir()) == [], "nothing was made"


def test_over_the_training_time_is_an_outcome(tiny_trial, store):
    rules = tiny_trial.config.rules.but(train_seconds=1e-3, eval_seconds=1e-3)
    result = run_trial(tiny_trial.config.but(rules=rules), store, Runtime())
    assert [i.reason for i in result.infeasible] == ["train_seconds"]
    assert result.infeasible[0].measured == result.train_seconds
    assert result.bpb is None


def test_over_the_evaluation_time_is_an_outcome_with_its_score(tiny_trial, store):
    rules = tiny_trial.config.rules.but(eval_seconds=1e-3)
    result = run_trial(tiny_trial.config.but(rules=rules), store, Runtime())
    assert [i.reason for i in result.infeasible] == ["eval_seconds"]
    assert result.bpb == tiny_trial.result.bpb


def test_a_gate_ends_the_trial_as_an_outcome(tiny_trial, store):
    outcome = Infeasible(reason="gate", measured=5.0, limit=4.0)

    def gate(step, metrics):
        if "val_bpb" in metrics:
            raise InfeasibleTrial(outcome)

    result = run_trial(tiny_trial.config.but(seed=43), store, Runtime(report=gate))
    assert result.status == "infeasible"
    assert result.infeasible == [outcome]
    assert list(result.stages) == ["corpus", "tokenize"], "the training was not published"
    assert result.bpb is None
    assert result.artifact_sha256 is None


def test_a_fault_is_no_outcome(tiny_trial, store):
    def broken(step, metrics):
        raise RuntimeError("the listener is gone")

    with pytest.raises(RuntimeError, match="the listener is gone"):
        run_trial(tiny_trial.config, store, Runtime(report=broken))


def test_a_validated_trial_has_its_second_score_and_its_certificate(tiny_trial):
    first, both = tiny_trial.result, tiny_trial.validated
    assert both.status == "ok"
    assert both.validation_bpb is not None
    assert both.validation_bpb != both.bpb
    assert (
        both.but(validation_bpb=None, stages=first.stages, eval_seconds=first.eval_seconds, tuple=first.tuple)
        == first
    ), "and nothing else changes"
    assert both.stages.keys() - first.stages.keys() == {"validate", "certify"}
    report = certificate_of(both, tiny_trial.store)
    assert report["verdict"] == "holds"
    assert report["artifact_sha256"] == both.artifact_sha256
    kept = attachments(both, tiny_trial.store)
    assert kept.keys() == {"ledger.npz", "certificate.json", "certificate.txt"}
    assert all(file.is_file() for file in kept.values())
    assert "certificate.json" not in attachments(first, tiny_trial.store)


def test_asking_for_validation_again_scores_nothing_twice(tiny_trial, store):
    again = validate(tiny_trial.result, store, Runtime())
    assert again.stages["validate"].cached
    assert again.stages["certify"].cached
    assert again.validation_bpb == tiny_trial.validated.validation_bpb


def test_only_the_artifact_on_record_is_validated(tiny_trial, tmp_path):
    other = tiny_trial.result.but(artifact_sha256="0" * 64)
    with pytest.raises(StoreError, match="on record"):
        validate(other, tiny_trial.store, Runtime())
    with pytest.raises(StoreError, match="has the trial's artifact"):
        validate(tiny_trial.result, Store(tmp_path / "empty"), Runtime())
    killed = tiny_trial.result.but(stages={}, artifact_sha256=None, status="infeasible")
    with pytest.raises(StoreError, match="packed an artifact"):
        validate(killed, tiny_trial.store, Runtime())


def test_the_evaluation_budget_holds_on_the_validation_split_too(tiny_trial):
    rules = tiny_trial.config.rules.but(eval_seconds=1e-6)
    hurried = tiny_trial.result.but(config=tiny_trial.config.but(rules=rules).plain())
    late = validate(hurried, tiny_trial.store, Runtime())
    assert late.status == "infeasible"
    assert [i.reason for i in late.infeasible] == ["eval_seconds", "certificate"], "L15 is one of its rules"
    assert late.tuple.eval_seconds == max(
        late.stages["validate"].metrics["eval_seconds"], tiny_trial.result.eval_seconds
    )


def test_a_wall_clock_checkpoint_names_its_hardware_and_a_step_budget_does_not():
    assert Hardware.of(Steps(steps=3), Runtime()) is None
    named = Hardware.of(Seconds(seconds=3), Runtime(threads=2))
    assert named is not None
    assert (named.ranks, named.threads) == (1, 2)


def test_weights_that_end_not_finite_are_an_outcome(tiny_trial, store):
    config = tiny_trial.config.but(
        train=tiny_trial.config.train.but(budget=Steps(steps=1)),
        optim=tiny_trial.config.optim.but(muon=Muon(lr=1e38), ema=None),
    )
    result = run_trial(config, store, Runtime())
    assert result.status == "infeasible"
    assert result.infeasible[0].reason == "diverged"
    assert result.bpb is None
