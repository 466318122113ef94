"""Calibration: each matrix's Hessian is the mean outer product of what that matrix was really given."""

import numpy as np
import pytest
import torch

from pgolf.data.loader import Windows
from pgolf.formats.checkpoint import Checkpoint
from pgolf.model.gpt import assemble
from pgolf.model.linear import Linear
from pgolf.model.softcap import softcap
from pgolf.quantize.calibrate import CALIBRATE, Calibrate
from pgolf.quantize.statistics import Statistics
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store

HERE = Runtime()


@pytest.fixture(scope="module")
def network(tiny_trial):
    trained = Checkpoint.read(tiny_trial.stage("train"))
    return assemble(trained.model, trained.vocab_size, trained.weights, "cpu")


@pytest.fixture(scope="module")
def hessians(tiny_trial):
    return Statistics.read(tiny_trial.stage("calibrate")).hessians


def windows(tiny_trial, tiny_tokens):
    """The windows that calibration draws, one row at a time."""
    c = tiny_trial.config.calibrate
    rows = c.tokens // c.context
    return next(iter(Windows(tiny_tokens, c.context, rows, tiny_trial.config.seed + 1_000_003)))


def test_every_matrix_has_a_hessian_of_its_inputs_and_nothing_else_has(network, hessians):
    matrices = {n: p for n, p in network.named_parameters() if network.roles[n].is_matrix}
    assert hessians.keys() == matrices.keys()
    for name, h in hessians.items():
        assert h.shape == (matrices[name].shape[1],) * 2


def test_a_hessian_is_the_mean_outer_product_of_the_recorded_inputs(
    tiny_trial, tiny_tokens, network, hessians
):
    batch = windows(tiny_trial, tiny_tokens)
    seen: dict[str, list[np.ndarray]] = {}
    with (
        torch.inference_mode(),
        network.observed(lambda n, x: seen.setdefault(n, []).append(x[0].double().numpy())),
    ):
        for row in range(len(batch.tokens)):
            network(batch.tokens[row : row + 1], batch.starts[row : row + 1])
    for name, h in hessians.items():
        x = np.concatenate(seen[name])
        assert len(x) == batch.tokens.numel()
        expected = np.zeros(h.shape)
        for vector in x:
            expected += np.outer(vector, vector)
        np.testing.assert_allclose(
            h.numpy(), expected / len(x), rtol=0, atol=2e-5 * np.abs(expected).max() / len(x)
        )


def test_what_is_observed_is_what_each_matrix_multiplies(tiny_trial, tiny_tokens, network):
    batch = windows(tiny_trial, tiny_tokens)
    seen, came = {}, {}
    handles = [
        module.register_forward_hook(lambda _, __, out, n=f"{name}.weight": came.__setitem__(n, out))
        for name, module in network.named_modules()
        if isinstance(module, Linear)
    ]
    with torch.inference_mode(), network.observed(lambda n, x: seen.__setitem__(n, x)):
        logits = network(batch.tokens[:2], batch.starts[:2])
    for handle in handles:
        handle.remove()
    weights = {name: p.detach() for name, p in network.named_parameters()}
    assert came.keys() == seen.keys() - {"embedding.weight"}
    for name, out in came.items():
        torch.testing.assert_close(seen[name] @ weights[name].T, out, rtol=1e-4, atol=1e-5)
    tied = seen["embedding.weight"] @ weights["embedding.weight"].T
    torch.testing.assert_close(softcap(tied, network.cap), logits, rtol=1e-4, atol=1e-4)


def test_observation_ends_with_its_block(tiny_trial, tiny_tokens, network):
    batch, seen = windows(tiny_trial, tiny_tokens), []
    with torch.inference_mode(), network.observed(lambda n, x: seen.append(n)):
        pass
    with torch.inference_mode():
        network(batch.tokens[:1], batch.starts[:1])
    assert seen == []


def test_the_same_seed_gives_the_same_hessians_to_the_bit_and_another_seed_others(
    tiny_trial, tiny_tokens, hessians, tmp_path
):
    other = CALIBRATE(
        Store(tmp_path), Artifact(tiny_trial.stage("train"), "a"), Artifact(tiny_tokens, "b"), runtime=HERE,
        seed=tiny_trial.config.seed, calibrate=tiny_trial.config.calibrate,
    )  # fmt: skip
    for name, h in Statistics.read(other.path).hessians.items():
        assert torch.equal(h, hessians[name])
    seeded = CALIBRATE(
        Store(tmp_path), Artifact(tiny_trial.stage("train"), "a"), Artifact(tiny_tokens, "b"), runtime=HERE,
        seed=tiny_trial.config.seed + 1, calibrate=Calibrate(tokens=64, context=64),
    )  # fmt: skip
    assert seeded.metrics["tokens"] == 64
    assert not torch.equal(
        Statistics.read(seeded.path).hessians["embedding.weight"], hessians["embedding.weight"]
    )


def test_its_time_is_on_the_train_clock(tiny_trial):
    calibrated = tiny_trial.result.stages["calibrate"].metrics
    trained = tiny_trial.result.stages["train"].metrics
    assert calibrated["train_seconds"] > 0
    assert tiny_trial.result.train_seconds == trained["train_seconds"] + calibrated["train_seconds"]
