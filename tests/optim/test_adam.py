"""AdamW against torch's own."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.model.roles import Role
from pgolf.optim.adam import Adam, AdamState


def params(seed: int) -> dict[Role, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {Role.EMBEDDING: [(5, 3)], Role.CONTROL: [(4,), (2, 3)]}
    made = {r: [torch.randn(s, generator=generator).requires_grad_() for s in ss] for r, ss in shapes.items()}
    return {role: made.get(role, []) for role in Role}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), beta1=st.floats(0, 0.99), beta2=st.floats(0.5, 0.999), decay=st.floats(0, 0.5),
       eps=st.sampled_from([1e-8, 1e-3]))  # fmt: skip
def test_it_is_torch_adamw_with_a_rate_for_each_role(seed, beta1, beta2, decay, eps):
    section = Adam(embedding_lr=0.05, control_lr=0.01, beta1=beta1, beta2=beta2, eps=eps,
                   embedding_weight_decay=decay, control_weight_decay=decay / 2)  # fmt: skip
    ours, theirs = params(seed), params(seed)
    state = AdamState(section, ours)
    twin = torch.optim.AdamW([
        {"params": theirs[Role.EMBEDDING], "lr": 0.05, "weight_decay": decay},
        {"params": theirs[Role.CONTROL], "lr": 0.01, "weight_decay": decay / 2},
    ], betas=(beta1, beta2), eps=eps)  # fmt: skip
    rates = [g["lr"] for g in twin.param_groups]
    generator = torch.Generator().manual_seed(seed)
    for scale in (1.0, 0.5, 0.25, 1.0):
        for role in Role:
            for a, b in zip(ours[role], theirs[role], strict=True):
                a.grad = torch.randn(a.shape, generator=generator)
                b.grad = a.grad.clone()
        state.step(scale)
        for group, lr in zip(twin.param_groups, rates, strict=True):
            group["lr"] = lr * scale
        twin.step()
    for role in Role:
        for a, b in zip(ours[role], theirs[role], strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_first_step_moves_by_the_rate_whatever_the_gradient():
    """Bias correction: m / sqrt(v) is the gradient's sign at first."""
    p = torch.tensor([1.0, 1.0], requires_grad=True)
    p.grad = torch.tensor([1e-3, -1e3])
    AdamState(Adam(control_lr=0.1), {**{r: [] for r in Role}, Role.CONTROL: [p]}).step(1.0)
    assert torch.allclose(p, torch.tensor([0.9, 1.1]), atol=1e-4)
