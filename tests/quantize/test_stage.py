"""The quantize stage: each matrix by its own role's grid, the rest in float16, the errors said."""

import pytest
import torch

from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import QuantizedModel
from pgolf.model.gpt import assemble
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.stage import quantize_stage
from pgolf.quantize.statistics import Statistics
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store

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
