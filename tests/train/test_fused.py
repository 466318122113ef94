"""Training with fused kernels: the same loss and gradients; evaluation never goes through them."""

import torch

from pgolf.data.batch import Batch
from pgolf.data.loader import document_starts
from pgolf.model import mlp as mlp_module
from pgolf.model.mlp import Mlp
from pgolf.train.objective import loss, loss_nats
from tests.nets import network, small, stream


def batch_of(seed: int) -> Batch:
    tokens = stream(seed, 13, 2)
    inputs = tokens[:, :-1].contiguous()
    return Batch(inputs, document_starts(inputs), tokens[:, 1:].contiguous())


def gradients(fused: bool) -> tuple[float, dict[str, torch.Tensor]]:
    built, batch = network(small(mlp=Mlp(mult=2.0, negative_slope=0.3))), batch_of(1)
    built.use_kernels(fused)
    made = loss(built, None, batch, None)
    made.total.backward()
    return made.nats.item(), {name: p.grad for name, p in built.named_parameters()}


def test_fused_or_not_it_is_the_same_training():
    plain, fused = gradients(False), gradients(True)
    assert abs(plain[0] - fused[0]) < 1e-6
    for name, grad in plain[1].items():
        assert torch.allclose(grad, fused[1][name], rtol=1e-4, atol=1e-6), name


def test_what_is_scored_does_not_depend_on_a_kernel(monkeypatch):
    built, batch, calls = network(), batch_of(2), []
    real = mlp_module.mlp
    monkeypatch.setattr(mlp_module, "mlp", lambda *given: calls.append(1) or real(*given))
    built.use_kernels(True)
    with torch.no_grad():
        built(batch.tokens, batch.starts)
    assert not calls
    loss_nats(built, batch).backward()
    assert len(calls) == len(built.blocks)
    built.use_kernels(False)
    loss_nats(built, batch)
    assert len(calls) == len(built.blocks)
