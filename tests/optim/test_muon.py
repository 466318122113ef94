"""Muon: the iteration against singular values, the update against a slow twin."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.optim.muon import Muon, MuonState, orthogonalize

# singular value (of a Frobenius norm of 1) -> where 3 and 5 classic steps take it, to 4 decimals
MAP = {
    1e-4: (0.0041, 0.0485), 1e-3: (0.0409, 0.4705), 3e-3: (0.1224, 1.1104), 0.01: (0.4001, 0.6989),
    0.03: (1.0120, 1.1223), 0.1: (0.7071, 0.7121), 0.3: (0.9689, 1.0796), 1.0: (0.7207, 0.6964),
}  # fmt: skip


@pytest.mark.parametrize("s", MAP)
def test_singular_values_go_where_the_table_says(s):
    x = torch.diag(torch.tensor([s, (1 - s * s) ** 0.5], dtype=torch.float64)).unsqueeze(0)
    for steps, expected in zip((3, 5), MAP[s], strict=True):
        assert float(orthogonalize(x, steps)[0, 0, 0]) == pytest.approx(expected, abs=6e-5)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    shape=st.sampled_from([(16, 48), (48, 16), (8, 64)]),
    scale=st.floats(1e-3, 1e3),
)
def test_the_update_keeps_directions_and_evens_out_lengths(seed, shape, scale):
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).double() * scale
    got = orthogonalize(x, 5)
    u, _, vt = torch.linalg.svd(x, full_matrices=False)
    core = u.mT @ got @ vt.mT
    values = core.diagonal(dim1=1, dim2=2)
    assert ((values > 0.68) & (values < 1.21)).all()
    assert (core - torch.diag_embed(values)).abs().max() < 1e-6, "the singular vectors are the input's"
    assert torch.allclose(u @ core @ vt, got, atol=1e-6), "nothing outside its row and column space"


def test_a_zero_gradient_makes_no_update():
    assert not orthogonalize(torch.zeros(1, 3, 5), 5).any()


def slow_update(section, w, grads, lr_scale, progress):
    """One matrix, one step after another, in float64 numpy."""
    m, w = np.zeros_like(w), w.copy()
    for g, scale, f in zip(grads, lr_scale, progress, strict=True):
        mu = section.momentum
        if f < section.momentum_warmup_fraction:
            share = f / section.momentum_warmup_fraction
            mu = section.momentum_start * (1 - share) + section.momentum * share
        m = mu * m + g
        u = g + mu * m
        if section.row_normalize:
            u = u / np.maximum(np.sqrt((u**2).sum(1, keepdims=True)), 1e-7)
        x = u / (np.sqrt((u**2).sum()) + 1e-7)
        for _ in range(section.newton_schulz_steps):
            a = x @ x.T
            x = 3.4445 * x - 4.7750 * a @ x + 2.0315 * a @ a @ x
        w *= 1 - section.lr * scale * section.weight_decay
        w -= section.lr * scale * np.sqrt(max(1.0, w.shape[0] / w.shape[1])) * x
    return w


@pytest.mark.parametrize("section", [
    Muon(lr=0.1, momentum=0.9, momentum_start=0.5, momentum_warmup_fraction=0.5),
    Muon(lr=0.1, momentum=0.95, row_normalize=True, weight_decay=0.3, newton_schulz_steps=3),
])  # fmt: skip
def test_a_step_is_the_equations_for_each_matrix_alone(section):
    """Shapes that are equal, tall and wide, so that batching by shape could mix them up."""
    rng = np.random.default_rng(0)
    shapes = [(6, 4), (4, 6), (6, 4), (5, 5), (4, 6)]
    starts = [rng.normal(size=s) for s in shapes]
    grads = [[rng.normal(size=s) for _ in range(4)] for s in shapes]
    params = [torch.tensor(w, requires_grad=True) for w in starts]
    state, scales, progress = MuonState(section, params), (1.0, 0.8, 0.5, 0.1), (0.0, 0.2, 0.4, 0.9)
    for i in range(4):
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.tensor(g[i])
        state.step(scales[i], progress[i])
    for p, w, g in zip(params, starts, grads, strict=True):
        assert np.allclose(p.detach().numpy(), slow_update(section, w, g, scales, progress), atol=1e-8)


def test_rows_of_equal_direction_count_the_same_once_normalized():
    """The norm is over the inputs: scaling a row of the gradient changes nothing."""
    g = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    ends = []
    for scale in (torch.ones(3, 1), torch.tensor([[10.0], [1.0], [0.1]])):
        p = torch.zeros(3, 5, requires_grad=True)
        p.grad = g * scale
        MuonState(Muon(row_normalize=True), [p]).step(1.0, 1.0)
        ends.append(p.detach())
    assert torch.allclose(ends[0], ends[1], atol=1e-6)


def test_momentum_warms_up_over_a_fraction_of_the_run():
    muon = Muon(momentum=0.9, momentum_start=0.5, momentum_warmup_fraction=0.2)
    assert [muon.momentum_at(f) for f in (0.0, 0.1, 0.2, 1.0)] == pytest.approx([0.5, 0.7, 0.9, 0.9])
    assert Muon(momentum=0.9, momentum_warmup_fraction=0.0).momentum_at(0.0) == 0.9
