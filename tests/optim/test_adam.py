"""AdamW against torch's own, and which rate is whose."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.model.roles import Role
from pgolf.optim.adam import Adam, AdamState
from pgolf.optim.ranks import Ranks
from pgolf.runtime import Runtime

SHAPES = {
    Role.EMBEDDING: [(5, 3)],
    Role.TABLE: [(8200, 4)],  # too large to be averaged together with the others
    Role.CONTROL: [(4,), (2, 3), ()],
    Role.GATE: [(2, 2)],
    Role.HEAD: [(5, 2)],
}


def params(seed: int) -> dict[Role, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        role: [torch.randn(s, generator=generator).requires_grad_() for s in shapes]
        for role, shapes in SHAPES.items()
    }


def state_of(section: Adam, given: dict[Role, list[torch.Tensor]]) -> AdamState:
    return AdamState(section, given, Ranks(Runtime()))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), beta1=st.floats(0, 0.99), beta2=st.floats(0.5, 0.999), decay=st.floats(0, 0.5),
       eps=st.sampled_from([1e-8, 1e-3]))  # fmt: skip
def test_it_is_torch_adamw_with_a_rate_for_each_group(seed, beta1, beta2, decay, eps):
    section = Adam(embedding_lr=0.05, control_lr=0.01, head_lr=0.002, beta1=beta1, beta2=beta2, eps=eps,
                   embedding_weight_decay=decay, control_weight_decay=decay / 2)  # fmt: skip
    ours, theirs = params(seed), params(seed)
    state = state_of(section, ours)
    rate = {Role.EMBEDDING: 0.05, Role.TABLE: 0.05, Role.CONTROL: 0.01, Role.GATE: 0.01, Role.HEAD: 0.002}
    kept = {0.05: decay, 0.01: decay / 2, 0.002: 0.0}
    twin = torch.optim.AdamW(
        [{"params": theirs[r], "lr": rate[r], "weight_decay": kept[rate[r]]} for r in SHAPES],
        betas=(beta1, beta2), eps=eps,
    )  # fmt: skip
    rates = [g["lr"] for g in twin.param_groups]
    generator = torch.Generator().manual_seed(seed)
    for scale in (1.0, 0.5, 0.25, 1.0):
        for role in SHAPES:
            for a, b in zip(ours[role], theirs[role], strict=True):
                a.grad = torch.randn(a.shape, generator=generator)
                b.grad = a.grad.clone()
        state.send()
        state.step(scale)
        for group, lr in zip(twin.param_groups, rates, strict=True):
            group["lr"] = lr * scale
        twin.step()
    for role in SHAPES:
        for a, b in zip(ours[role], theirs[role], strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-6), role


@pytest.mark.parametrize("role", SHAPES)
def test_the_first_step_moves_by_the_rate_whatever_the_gradient(role):
    """Bias correction: m / sqrt(v) is the gradient's sign at first. Heads have 0.008 unless told."""
    given = params(0)
    starts = [p.detach().clone() for p in given[role]]
    for p in given[role]:
        p.grad = torch.full_like(p, -1e3)
    state = state_of(Adam(embedding_lr=0.2, control_lr=0.1), given)
    state.send()
    state.step(1.0)
    expected = {Role.HEAD: 0.008, Role.CONTROL: 0.1, Role.GATE: 0.1}.get(role, 0.2)
    for p, start in zip(given[role], starts, strict=True):
        assert torch.allclose(p - start, torch.full_like(p, expected), atol=1e-6)


def test_a_gradient_that_is_none_is_zero():
    """A step without a gradient still counts: moments shrink, and go on moving the parameter."""
    ends = []
    for nothing in (None, torch.zeros(3)):
        p = torch.ones(3, requires_grad=True)
        state = state_of(Adam(), {Role.CONTROL: [p]})
        for grad in (nothing, torch.tensor([1.0, -2.0, 3.0]), nothing):
            p.grad = grad
            state.send()
            state.step(1.0)
        ends.append(p.detach())
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], torch.ones(3))
