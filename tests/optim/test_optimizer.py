"""One optimizer a run: each parameter in exactly one group, one clock for all."""

import pytest
import torch

from pgolf.model.roles import Role
from pgolf.optim.adam import Adam
from pgolf.optim.ema import Ema
from pgolf.optim.muon import Muon
from pgolf.optim.optimizer import Optim, Optimizer
from pgolf.optim.schedule import Schedule
from tests.nets import network


def with_gradients(seed: int = 0, scale: float = 1.0):
    built = network(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for p in built.parameters():
        p.grad = torch.randn(p.shape, generator=generator) * scale
    return built


def test_every_parameter_is_in_exactly_one_group():
    built = network()
    optimizer = Optimizer(Optim(), built)
    adam = [p for role in (Role.EMBEDDING, Role.CONTROL) for p in optimizer.adam.params[role]]
    grouped = [id(p) for p in [*optimizer.muon.params, *adam]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in built.parameters()}
    names = {id(p): n for n, p in built.named_parameters()}
    assert all(built.roles[names[id(p)]] in (Role.ATTENTION, Role.MLP) for p in optimizer.muon.params)


def test_a_step_moves_every_parameter_and_clears_the_gradients():
    built = with_gradients()
    before = {n: p.detach().clone() for n, p in built.named_parameters()}
    Optimizer(Optim(), built).step(progress=0.2, progress_made=0.01)
    for name, p in built.named_parameters():
        assert not torch.equal(p, before[name]), name
        assert p.grad is None


def test_the_schedule_scales_every_rate():
    """At the end of a warmdown to zero nothing moves, decay included."""
    built = with_gradients()
    before = {n: p.detach().clone() for n, p in built.named_parameters()}
    section = Optim(
        muon=Muon(weight_decay=0.5), adam=Adam(embedding_weight_decay=0.5), schedule=Schedule(min_lr=0.0)
    )
    Optimizer(section, built).step(progress=1.0, progress_made=0.01)
    assert all(torch.equal(p, before[n]) for n, p in built.named_parameters())


def test_clipping_bounds_the_global_norm():
    """Clipped gradients of any size are equal; Adam's second step would tell them apart by eps alone."""
    section = Optim(grad_clip=1.0, adam=Adam(eps=0.1))
    ends = []
    for scale in (100.0, 10_000.0):
        built = with_gradients(scale=scale)
        Optimizer(section, built).step(0.0, 0.01)
        ends.append({n: p.detach() for n, p in built.named_parameters()})
    assert all(torch.allclose(ends[0][n], ends[1][n], atol=1e-5) for n in ends[0])
    free = with_gradients(scale=100.0)
    Optimizer(section.but(grad_clip=None), free).step(0.0, 0.01)
    assert not torch.allclose(free.embedding.weight, ends[0]["embedding.weight"], atol=1e-5)


@pytest.mark.parametrize("ema", [None, Ema(window_fraction=0.5)])
def test_finishing_puts_the_average_in_place(ema):
    built = with_gradients()
    optimizer = Optimizer(Optim(ema=ema), built)
    tables = []
    for _ in range(2):
        for p in built.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step(0.0, 0.1)
        tables.append(built.embedding.weight.detach().clone())
    optimizer.finish()
    got = built.embedding.weight.detach()
    if ema is None:
        assert torch.equal(got, tables[1])
    else:
        low, high = torch.minimum(*tables), torch.maximum(*tables)
        assert ((got > low) & (got < high)).all()
