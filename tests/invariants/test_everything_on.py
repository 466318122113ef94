"""Networks with everything on that goes together: trained, quantized, packed, and scored from the artifact."""

import shutil

import pytest
import torch

from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.checkpoint import Checkpoint
from pgolf.model.gpt import GptConfig, assemble
from pgolf.model.roles import Role
from pgolf.pipeline import run_trial
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.statistics import Statistics
from pgolf.runtime import Runtime
from pgolf.stage import Store
from tests.nets import EVERYTHING, VOCAB, everything

pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("everything")]


@pytest.fixture(scope="module", params=EVERYTHING)
def trial(request, tiny_trial, tmp_path_factory):
    """The tiny trial with another network, on the tiny trial's tokens."""
    home = tmp_path_factory.mktemp("everything") / "store"
    shutil.copytree(tiny_trial.store.directory, home)
    base = tiny_trial.config
    store, train = Store(home), base.train.but(batch_tokens=256)
    config = base.but(model=everything(request.param), train=train)
    return store, run_trial(config, store, Runtime())


def stage(trial, name: str):
    store, result = trial
    return store.find({"evaluate": "evaluate_select"}.get(name, name), result.stages[name].key).path


def test_it_runs_to_the_end_and_quantizing_costs_little(trial):
    _, result = trial
    assert result.status == "ok", result.infeasible
    assert abs(result.bpb - result.prequant_bpb) < 0.1
    assert result.bpb < 8


def test_every_parameter_was_trained(trial):
    """No group was forgotten: against the fresh network, everything moved."""
    _, result = trial
    trained = Checkpoint.read(stage(trial, "train"))
    fresh = GptConfig.model_validate(trained.model).build(trained.vocab_size).reset(result.seed)
    still = [n for n, p in fresh.named_parameters() if torch.equal(p.detach(), trained.weights[n])]
    assert not still


def test_tables_are_rounded_and_every_other_matrix_is_solved_by_its_hessian(trial, tiny_trial):
    trained = Checkpoint.read(stage(trial, "train"))
    roles = assemble(trained.model, trained.vocab_size, trained.weights, "cpu").roles
    hessians = Statistics.read(stage(trial, "calibrate")).hessians
    packed = read_artifact(stage(trial, "pack") / ARTIFACT)
    tables = {n for n, role in roles.items() if role is Role.TABLE}
    assert tables
    assert {n for n, role in roles.items() if role.is_matrix} == packed.matrices.keys()
    assert packed.matrices.keys() - tables == hessians.keys()
    grids = tiny_trial.config.quantize.grids
    for name in tables:
        plain = Rtn().quantize(trained.weights[name], grids.of(Role.TABLE))
        assert torch.equal(packed.matrices[name].q, plain.q)
        assert packed.roles[name] == "table"


def test_the_artifact_makes_the_network_again(trial):
    packed = read_artifact(stage(trial, "pack") / ARTIFACT)
    network = assemble(packed.model, packed.vocab_size, packed.weights(), "cpu")
    tokens = torch.randint(2, VOCAB, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.isfinite(network(tokens, tokens == 1)).all()
    assert network.config == GptConfig.model_validate(packed.model)
