"""The global norm and the scale, against torch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pgolf.optim.adam import Adam
from pgolf.optim.clip import clip_, global_norm
from pgolf.optim.optimizer import Optim, Optimizer
from pgolf.optim.ranks import Ranks
from pgolf.runtime import Runtime
from tests.optim.toy import Heads, Toy


class Doubled(Ranks):
    """Another rank has slices of the same norm."""

    def total(self, x):
        return x.mul_(2)


def drawn(seed, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_worked_example():
    """Slices of norm 3 here and there, and 4 held by both: sqrt(9 + 9 + 16); the whole counts once."""
    sliced, whole = [torch.tensor([3.0, 0.0])], [torch.tensor([[0.0], [4.0]])]
    assert global_norm(sliced, whole, Ranks(Runtime())).item() == pytest.approx(5.0)
    assert global_norm(sliced, whole, Doubled(Runtime())).item() == pytest.approx(34**0.5)
    clip_(sliced + whole, torch.tensor(5.0), 1.0)
    assert torch.allclose(whole[0], torch.tensor([[0.0], [0.8]]))


@given(seed=st.integers(0, 2**31 - 1), limit=st.floats(0.01, 100))
def test_it_is_torch_clip_grad_norm(seed, limit):
    grads = [drawn(seed + i, shape) for i, shape in enumerate([(2, 3, 4), (5,), ()])]
    twins = [nn.Parameter(torch.zeros_like(g)) for g in grads]
    for twin, g in zip(twins, grads, strict=True):
        twin.grad = g.clone()
    nn.utils.clip_grad_norm_(twins, limit)
    clip_(grads, global_norm(grads[:1], grads[1:], Ranks(Runtime())), limit)
    assert all(torch.allclose(g, t.grad, rtol=1e-5) for g, t in zip(grads, twins, strict=True))


def test_bfloat16_slices_are_measured_in_float32():
    g = torch.full((1, 5, 7), 0.3).bfloat16()
    expected = 0.30078125 * 35**0.5  # which bfloat16 would round by a thousandth
    assert global_norm([g], [torch.zeros(1)], Ranks(Runtime())).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scope", [None, "local"])
def test_heads_neither_enter_the_norm_nor_are_scaled(scope):
    """The trunk ends where it does with quiet heads, and loud heads end where they do unclipped."""
    ends = {}
    for limit, loud in ((1.0, 1.0), (1.0, 1e6), (None, 1e6)):
        toy, heads = Toy(), Heads()
        for p in toy.parameters():
            p.grad = torch.ones_like(p)
        heads.weight.grad = torch.full_like(heads.weight, loud)
        section = Optim(grad_clip=limit, grad_clip_scope=scope if limit else None, adam=Adam(eps=1e3))
        Optimizer(section, toy, Runtime(), heads).step(0.0, 0.1)
        ends[limit, loud] = toy.gain.detach(), heads.weight.detach()
    assert torch.equal(ends[1.0, 1.0][0], ends[1.0, 1e6][0])
    assert not torch.allclose(ends[1.0, 1e6][0], ends[None, 1e6][0])
    assert torch.equal(ends[1.0, 1e6][1], ends[None, 1e6][1])


def test_on_one_rank_both_scopes_are_one():
    ends = []
    for scope in (None, "local"):
        toy = Toy()
        for i, p in enumerate(toy.parameters()):
            p.grad = drawn(i, p.shape).double()
        Optimizer(Optim(grad_clip=0.3, grad_clip_scope=scope, adam=Adam(eps=1.0)), toy, Runtime()).step(
            0.0, 0.1
        )
        ends.append({n: p.detach() for n, p in toy.named_parameters()})
    assert all(torch.allclose(w, ends[1][n], rtol=1e-9, atol=1e-12) for n, w in ends[0].items())
