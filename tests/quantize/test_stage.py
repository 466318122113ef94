"""The quantize stage: each matrix by its own role's grid, the rest in float16, the errors said."""

import json

import pytest
import torch

from pgolf.errors import InfeasibleTrial
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import QuantizedModel
from pgolf.model.gpt import assemble
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.stage import packed_bytes
from pgolf.quantize.calibrate import CALIBRATE, Calibrate, Fisher
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.rate_distortion import RateDistortion
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.stage import REPORT, ByteTarget, quantize_stage
from pgolf.quantize.statistics import Statistics, predicted_loss
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store
from tests.nets import VOCAB, network, small
from tests.train.conftest import written

GRIDS = RoleGrids(
    embedding=SdClip(bits=8, clip_sigmas=20.0), attention=SdClip(bits=3, clip_sigmas=2.0),
    mlp=SdClip(bits=4, clip_sigmas=3.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_trial) -> Checkpoint:
    return Checkpoint.read(tiny_trial.stage("train"))


@pytest.fixture(scope="module")
def roles(trained):
    return assemble(trained.model, trained.vocab_size, trained.weights, "cpu").roles


def stage(tiny_trial, where, quantizer):
    inputs = [Artifact(tiny_trial.stage("train"), "t")]
    if quantizer.needs:
        inputs.append(Artifact(tiny_trial.stage("calibrate"), "h"))
    return quantize_stage(lambda _: 0)(Store(where), *inputs, runtime=Runtime(), quantize=quantizer)


def test_every_matrix_is_on_its_own_roles_grid_and_the_rest_is_float16(tiny_trial, trained, roles, tmp_path):
    made = stage(tiny_trial, tmp_path, Rtn(grids=GRIDS))
    model = QuantizedModel.read(made.path)
    assert {*model.matrices, *model.rest} == set(trained.weights)
    for name, w in trained.weights.items():
        if not roles[name].is_matrix:
            assert torch.equal(model.rest[name], w.half())
            continue
        expected = Rtn().quantize(w, GRIDS.of(roles[name]))
        assert torch.equal(model.matrices[name].q, expected.q)
        assert torch.equal(model.matrices[name].row, expected.row)
        assert model.roles[name] == roles[name].value


def test_gptq_gets_each_matrixs_own_hessian(tiny_trial, trained, roles, tmp_path):
    quantizer = Gptq(grids=GRIDS)
    model = QuantizedModel.read(stage(tiny_trial, tmp_path, quantizer).path)
    hessians = Statistics.read(tiny_trial.stage("calibrate")).hessians
    for name, m in model.matrices.items():
        expected = quantizer.quantize(trained.weights[name], GRIDS.of(roles[name]), hessians[name])
        assert torch.equal(m.q, expected.q)
        assert torch.equal(m.row, expected.row)


def test_the_errors_are_relative_and_per_role(tiny_trial, trained, roles, tmp_path):
    made = stage(tiny_trial, tmp_path, Rtn(grids=GRIDS))
    model = QuantizedModel.read(made.path)
    for role in ("embedding", "attention", "mlp"):
        names = [n for n in model.matrices if roles[n].value == role]
        squared = sum(
            (model.weights()[n].double() - trained.weights[n].double()).square().sum() for n in names
        )
        power = sum(trained.weights[n].double().square().sum() for n in names)
        assert made.metrics[f"relative_error_{role}"] == pytest.approx(float(squared / power), rel=1e-5)
    assert made.metrics["relative_error_embedding"] < made.metrics["relative_error_attention"]


def test_the_quantized_network_is_the_float_one_nearly(tiny_trial, trained):
    weights = QuantizedModel.read(tiny_trial.stage("quantize")).weights()
    assert weights.keys() == trained.weights.keys()
    for name, w in weights.items():
        assert w.shape == trained.weights[name].shape
        assert float((w - trained.weights[name]).norm()) < 0.25 * float(trained.weights[name].norm()) + 1e-3


@pytest.fixture(scope="module")
def weighed(tmp_path_factory):
    """A random network's checkpoint, its statistics with the Fisher information, and the network."""
    home, net = tmp_path_factory.mktemp("weighed"), network(small(), std=0.3)
    for name in ("tokens", "checkpoint", "statistics"):
        (home / name).mkdir()
    written(home / "tokens")
    Checkpoint(net.config.plain(), VOCAB, {n: p.detach() for n, p in net.named_parameters()}).write(
        home / "checkpoint"
    )
    section = Calibrate(tokens=256, context=16, fisher=Fisher(tokens=256))
    CALIBRATE.run(
        home / "checkpoint",
        home / "tokens",
        out=home / "statistics",
        runtime=Runtime(),
        seed=1,
        calibrate=section,
    )
    return home / "checkpoint", home / "statistics", net


def quantized(weighed, out, **sections) -> QuantizedModel:
    checkpoint, statistics, _ = weighed
    out.mkdir()
    run = quantize_stage(lambda model: packed_bytes(model, BrotliPacker())).run
    run(checkpoint, statistics, out=out, runtime=Runtime(), **sections)
    return QuantizedModel.read(out)


def test_a_byte_target_is_of_code_and_model_together(weighed, tmp_path):
    sizes = []
    for code in (0, 1500, 3000):
        target = ByteTarget(artifact_bytes=8000, code_bytes=code)
        model = quantized(weighed, tmp_path / f"{code}", quantize=RateDistortion(), target=target)
        sizes.append(packed_bytes(model, BrotliPacker()))
        assert 0.97 * (8000 - code) <= sizes[-1] <= 8000 - code
    own = RateDistortion(target_bytes=6000)
    target = ByteTarget(artifact_bytes=8000, code_bytes=1500)
    model = quantized(weighed, tmp_path / "own", quantize=own, target=target)
    assert 4350 <= packed_bytes(model, BrotliPacker()) <= 4500


def test_a_target_below_the_code_is_infeasible(weighed, tmp_path):
    with pytest.raises(InfeasibleTrial) as stopped:
        quantized(weighed, tmp_path / "none", quantize=RateDistortion(),
                  target=ByteTarget(artifact_bytes=2000, code_bytes=2500))  # fmt: skip
    assert stopped.value.outcome.reason == "artifact_bytes"
    assert stopped.value.outcome.measured > 2500


def test_the_report_says_what_every_rounding_is_predicted_to_cost(weighed, tmp_path):
    model = quantized(weighed, tmp_path / "rtn", quantize=Rtn())
    report = json.loads((tmp_path / "rtn" / REPORT).read_text())
    known = Statistics.read(weighed[1])
    assert report.keys() == model.matrices.keys()
    for name, m in model.matrices.items():
        error = m.dequantize() - weighed[2].get_parameter(name).detach()
        assert report[name]["predicted_loss_nats"] == pytest.approx(predicted_loss(name, error, known))


@pytest.mark.parametrize("quantizer", [Rtn(), Gptq(), RateDistortion()], ids=lambda q: q.kind)
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(weighed, tmp_path, quantizer, bad):
    checkpoint, statistics, _ = weighed
    broken = Checkpoint.read(checkpoint)
    broken.weights["blocks.1.mlp.up.weight"][3, 4] = bad
    (tmp_path / "in").mkdir(), (tmp_path / "out").mkdir()
    broken.write(tmp_path / "in")
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp\.up\.weight holds NaN or infinity"):
        quantize_stage(lambda _: 0).run(
            tmp_path / "in", statistics, out=tmp_path / "out", runtime=Runtime(), quantize=quantizer
        )
