"""The cost model against the published logs, by hand, and what it refuses."""

import math

import pytest
import torch

from pgolf.errors import ConfigError
from pgolf.estimate import GPUS, code_bytes, estimate, impossible, train_flops_per_token
from pgolf.model.recurrence import Recurrence
from pgolf.pack.bundle import bundle, unneeded
from pgolf.quantize.sd_clip import SdClip
from pgolf.recipes import recipe, tiny
from pgolf.rules import H100_GANG
from pgolf.train.budget import Steps

PARAMS = {
    "naive_baseline": 17_059_912,
    "pr1218": 34_401_371,
    "pr1394": 35_943_512,
    "pr1493": 35_944_536,
    "pr1530": 35_944_602,
    "pr1626": 35_944_602,
    "pr1736": 35_989_658,
    "pr1787": 35_945_658,
    "pr1855": 35_945_671,
}
# ms per step before and after the recurrence switched on, on 8xH100
MS = {"pr315": (85.0, 85.0), "pr1019": (86.6, 86.6), "pr1218": (98.9, 98.9), "pr1394": (101.8, 140.0),
      "pr1493": (102.0, 151.0), "pr1855": (96.3, 140.8)}  # fmt: skip
STEPS = {"pr1218": 5967, "pr1394": 4988, "pr1493": 4550, "pr1530": 4867, "pr1855": 4945}
PEAK_GB = {"pr198": 19.7, "pr315": 20.6, "pr549": 21.5, "pr1019": 22.9, "pr1218": 25.8, "pr1394": 35.4,
           "pr1493": 39.0, "pr1530": 40.0, "pr1855": 41.7}  # fmt: skip
BYTES = {"pr1394": 15_985_000, "pr1493": 15_991_930, "pr1626": 15_932_897, "pr1736": 15_978_834,
         "pr1787": 15_940_380, "pr1855": 15_897_259}  # fmt: skip


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_are_the_published_number(name):
    assert estimate(recipe(name)).params == PARAMS[name]


@pytest.mark.parametrize("name", MS)
def test_ms_per_step_is_near_the_logs_in_both_phases(name):
    config = recipe(name)
    plain = config.but(model=config.model.but(recurrence=None))
    before, after = estimate(plain).predicted_ms_per_step, estimate(config).predicted_ms_per_step
    assert before == pytest.approx(MS[name][0], rel=0.10)
    assert after == pytest.approx(MS[name][1], rel=0.10)


@pytest.mark.parametrize("name", STEPS)
def test_steps_in_the_budget_are_near_the_logs(name):
    assert estimate(recipe(name)).predicted_steps == pytest.approx(STEPS[name], rel=0.10)


@pytest.mark.parametrize("name", PEAK_GB)
def test_peak_memory_is_near_and_above_the_logs(name):
    ratio = estimate(recipe(name)).predicted_peak_memory_bytes / 1e9 / PEAK_GB[name]
    assert 0.98 <= ratio <= 1.20


@pytest.mark.parametrize("name", BYTES)
def test_bytes_are_near_the_published_artifacts(name):
    assert estimate(recipe(name)).predicted_artifact_bytes == pytest.approx(BYTES[name], rel=0.02)


@pytest.mark.parametrize(("bits", "sigmas"), [(6, 12.85), (4, 17.0), (2, 1.0), (8, 20.0), (3, 30.0)])
def test_bits_per_weight_is_the_entropy_of_gaussian_codes(bits, sigmas):
    grid = SdClip(bits=bits, clip_sigmas=sigmas)
    w = torch.randn(1, 400_000, generator=torch.Generator().manual_seed(0))
    share = grid.codes(w, torch.tensor(sigmas / grid.qmax)).unique(return_counts=True)[1] / w.numel()
    assert grid.entropy_bits == pytest.approx(float(-(share * share.log2()).sum()), abs=0.01)


def test_the_papers_rule_of_thumb_holds_where_steps_are_fine():
    assert SdClip(bits=6, clip_sigmas=12.85).entropy_bits == pytest.approx(3.32, abs=0.01)


def test_flops_by_hand():
    """Two blocks of Q K V O and an MLP x3, the head; the second block three times; attention over half a row."""
    base = tiny()
    model = base.model.but(recurrence=Recurrence(first=1, last=1, passes=3))
    config = base.but(model=model)
    d, kv, hidden, vocab, context = 32, 16, 96, 1024, 64
    block = 2 * d * d + 2 * d * kv + 2 * d * hidden
    expected = 6 * (4 * block + vocab * d) + 12 * 4 * d * context / 2
    assert train_flops_per_token(config, model.build(vocab)) == expected


def test_another_gpu_is_scaled_by_its_peak():
    config = recipe("pr1855")
    here, there = (estimate(config, gpu).predicted_ms_per_step for gpu in ("H100", "A100"))
    assert there / here == pytest.approx(GPUS["H100"].peak_flops / GPUS["A100"].peak_flops)
    assert estimate(tiny()).predicted_ms_per_step is None, "a processor's time is not predicted"


def test_an_unknown_gpu_names_the_nearest():
    with pytest.raises(ConfigError, match="H100"):
        estimate(recipe("pr1855"), "H10")


def test_every_record_is_possible():
    assert not [name for name in PARAMS if impossible(recipe(name))]


def test_what_is_far_beyond_a_limit_is_impossible():
    base = recipe("pr1855")
    wide = base.but(model=base.model.but(mlp=base.model.mlp.but(mult=8.0)))
    assert [i.reason for i in impossible(wide)] == ["predicted_artifact_bytes"]
    hungry = base.but(rules=base.rules.but(gang=H100_GANG.but(gpu="RTX 4090")))
    assert [i.reason for i in impossible(hungry)] == ["predicted_peak_memory_bytes"]
    long = base.but(train=base.train.but(budget=Steps(steps=50_000)))
    (outcome,) = impossible(long)
    assert (outcome.reason, outcome.limit) == ("predicted_train_seconds", 600)
    assert math.isclose(outcome.measured, estimate(long).predicted_train_seconds)


@pytest.mark.parametrize("name", ["tiny", "pr1019", "pr1855"])
def test_code_bytes_are_near_those_of_the_bundle(name):
    config = recipe(name)
    made = bundle(config.model, config.evaluate, unneeded(config.pack.kind))
    assert code_bytes(config.model) == pytest.approx(len(made), rel=0.1)
