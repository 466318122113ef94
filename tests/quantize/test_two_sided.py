"""Feedback along both axes against its definition, cell for cell, and against the loss it is to lower."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.quantize.sweep import HessianNotPositive, factor, sweep
from pgolf.quantize.two_sided import shrunk, sweep_two_sided
from tests.quantize.test_sweep import problem, steps

SEEDS = st.integers(0, 2**31 - 1)
DAMPING = 0.02


def two_sided_problem(seed: int, batch: int = 1, rows: int = 7, cols: int = 10):
    """Weights, a Gram matrix of the outputs' gradients and one of the inputs."""
    w, a = problem(seed, batch, rows, cols)
    _, g = problem(seed + 1, batch, 1, rows)
    return w, g, a


def damped(h: torch.Tensor) -> torch.Tensor:
    mean = h.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    return h + DAMPING * mean * torch.eye(h.shape[1], dtype=h.dtype)


def loss(e: torch.Tensor, g: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """tr(G E A E^T) of each member."""
    return ((g @ e @ a) * e).sum((1, 2))


def unit_upper(h: torch.Tensor) -> torch.Tensor:
    """L of H = L D L^T, unit upper, by eliminating the last variable first; one entry at a time."""
    h, n = h.clone(), len(h)
    lower = torch.eye(n, dtype=h.dtype)
    for k in range(n - 1, -1, -1):
        for i in range(k):
            lower[i, k] = h[i, k] / h[k, k]
        for i in range(k):
            for j in range(k):
                h[i, j] -= lower[i, k] * lower[j, k] * h[k, k]
    return lower


def twin(w, g, a, step, qmax=None, shrink=None):
    """Codes of one matrix: the weight that makes F_rc = 0 given all codes so far, rounded, cell by cell."""
    step = step.expand_as(w)
    shrink = torch.ones_like(w) if shrink is None else shrink.expand_as(w)
    w = w.clone()
    for j in range(len(a)):
        if a[j, j] == 0:
            w[:, j] = 0
    a, g = (h + torch.diag((h.diagonal() == 0).double()) for h in (a, g))
    rows, cols = (sorted(range(len(h)), key=lambda j, h=h: (-h[j, j].item(), j)) for h in (g, a))
    l_g = unit_upper(damped(g[None])[0][rows][:, rows])
    l_a = unit_upper(damped(a[None])[0][cols][:, cols])
    e = torch.zeros(
        len(rows), len(cols), dtype=torch.float64
    )  # in processing order; zero where not yet known
    q = torch.zeros_like(w)
    for i, r in enumerate(rows):
        for j, c in enumerate(cols):
            f = sum(l_g[k, i] * e[k, m] * l_a[m, j] for k in range(i + 1) for m in range(j + 1))
            q[r, c] = ((w[r, c] + f) / step[r, c] * shrink[r, c]).round()
            if qmax is not None:
                q[r, c] = q[r, c].clamp(-qmax, qmax)
            e[i, j] = w[r, c] - step[r, c] * q[r, c]
    return q


@settings(max_examples=25)
@given(seed=SEEDS, rows=st.integers(1, 7), cols=st.integers(1, 7), per_weight=st.booleans(), shrinks=st.booleans(),
       qmax=st.sampled_from([None, 1, 7]), tile=st.sampled_from([1, 2, 3, 5, 64]))  # fmt: skip
def test_codes_are_the_definitions_codes(seed, rows, cols, per_weight, shrinks, qmax, tile):
    w, g, a = two_sided_problem(seed, 2, rows, cols)
    step = steps(w, seed, per_weight)
    shrink = steps(w, seed + 7, per_weight, 1.5) if shrinks else None
    got = sweep_two_sided(w, factor(g, DAMPING), factor(a, DAMPING), step, qmax, shrink, tile)
    for i in range(2):
        want = twin(w[i], g[i], a[i], step[i], qmax, None if shrink is None else shrink[i])
        assert torch.equal(got[i], want)


def test_a_worked_example():
    """Inputs and outputs correlated 1/2: half of an error is made up for across, half below, a quarter (with the
    other sign) on the diagonal."""
    h = torch.tensor([[[1.0, 0.5], [0.5, 1.0]]])
    f = factor(h, damping=0.0)
    w = torch.tensor([[[1.4, 0.35], [2.2, 0.0]]])
    # 1.4 -> 1 leaves 0.4; 0.35 + 0.4 / 2 -> 1 leaves -0.45; 2.2 + 0.4 / 2 -> 2 leaves 0.4;
    # then 0 - 0.4 / 4 + (-0.45 + 0.4) / 2 = -0.125 -> 0
    assert sweep_two_sided(w, f, f, torch.ones(1, 2, 1), None).tolist() == [[[1.0, 1.0], [2.0, 0.0]]]
    w[0, 1, 1] = 0.62  # 0.495 -> 0, though it rounds to 1
    assert sweep_two_sided(w, f, f, torch.ones(1, 2, 1), None).tolist() == [[[1.0, 1.0], [2.0, 0.0]]]
    w[0, 1, 1] = 0.63  # 0.505
    assert sweep_two_sided(w, f, f, torch.ones(1, 2, 1), None).tolist() == [[[1.0, 1.0], [2.0, 1.0]]]


@pytest.mark.parametrize(("rows", "cols"), [(64, 64), (65, 130), (127, 63), (1, 100), (150, 1), (20, 200)])
def test_the_tile_is_a_matter_of_speed_alone(rows, cols):
    w, g, a = two_sided_problem(5, 2, rows, cols)
    known, step = (factor(g, DAMPING), factor(a, DAMPING)), steps(w, 5, per_column=True)
    codes = [sweep_two_sided(w, *known, step, 31, tile=tile) for tile in (16, 50, 64, 256)]
    assert all(torch.equal(codes[0], c) for c in codes[1:])


@given(seed=SEEDS, act_order=st.booleans())
def test_the_loss_is_both_pivots_times_what_rounding_leaves(seed, act_order):
    """tr(G E A E^T) = sum D_G,r D_A,c F_rc^2, and F is what rounding leaves: at most half a step."""
    w, g, a = two_sided_problem(seed, 2, 9, 12)
    rows, cols = factor(g, DAMPING, act_order), factor(a, DAMPING, act_order)
    step = steps(w, seed, per_column=True)
    e = w - step * sweep_two_sided(w, rows, cols, step, None, tile=4)
    ordered = e.take_along_dim(rows.order.unsqueeze(2), 1).take_along_dim(cols.order.unsqueeze(1), 2)
    f = rows.unit.mT @ ordered @ cols.unit
    f = f.take_along_dim(rows.order.argsort(1).unsqueeze(2), 1)
    f = f.take_along_dim(cols.order.argsort(1).unsqueeze(1), 2)
    assert (f.abs() <= 0.5 * step * (1 + 1e-9)).all()
    told = (rows.pivots.unsqueeze(2) * cols.pivots.unsqueeze(1) * f**2).sum((1, 2))
    torch.testing.assert_close(told, loss(e, damped(g), damped(a)))


@given(seed=SEEDS, rows=st.integers(1, 9), tile=st.sampled_from([3, 64]))
def test_with_independent_outputs_it_is_the_one_sided_sweep(seed, rows, tile):
    w, _, a = two_sided_problem(seed, 2, rows, 10)
    g = torch.diag_embed(torch.rand(2, rows, generator=torch.Generator().manual_seed(seed)) + 0.1)
    step, cols = steps(w, seed, per_column=True), factor(a, DAMPING)
    assert torch.equal(
        sweep_two_sided(w, factor(g, DAMPING), cols, step, 7, tile=tile), sweep(w, cols, step, 7)
    )


@given(seed=SEEDS, tile=st.sampled_from([3, 64]))
def test_with_independent_inputs_it_is_the_one_sided_sweep_of_the_transpose(seed, tile):
    w, g, _ = two_sided_problem(seed, 2, 10, 6)
    a = torch.eye(6).expand(2, -1, -1)
    step, rows = steps(w, seed, per_column=True), factor(g, DAMPING)
    across = sweep(w.mT.contiguous(), rows, step.mT.contiguous(), 7).mT
    assert torch.equal(sweep_two_sided(w, rows, factor(a, DAMPING), step, 7, tile=tile), across)


@given(seed=SEEDS, tile=st.sampled_from([4, 64]))
def test_rows_and_columns_are_treated_alike(seed, tile):
    w, g, a = two_sided_problem(seed, 2, 6, 9)
    rows, cols, step = factor(g, DAMPING), factor(a, DAMPING), steps(w, seed, per_column=True)
    turned = sweep_two_sided(w.mT.contiguous(), cols, rows, step.mT.contiguous(), 7, tile=tile)
    assert torch.equal(turned.mT, sweep_two_sided(w, rows, cols, step, 7, tile=tile))


@given(seed=SEEDS, act_order=st.booleans())
def test_a_batch_is_its_members_one_by_one(seed, act_order):
    w, g, a = two_sided_problem(seed, 3, 6, 9)
    step, shrink = steps(w, seed, True), steps(w, seed, True, 1.2)

    def codes(at: slice) -> torch.Tensor:
        rows, cols = factor(g[at], DAMPING, act_order), factor(a[at], DAMPING, act_order)
        return sweep_two_sided(w[at], rows, cols, step[at], None, shrink[at], tile=4)

    assert torch.equal(codes(slice(0, 3)), torch.cat([codes(slice(i, i + 1)) for i in range(3)]))


@given(seed=SEEDS, power=st.integers(-20, 20))
def test_neither_the_scale_of_the_fisher_matrix_nor_that_of_the_weights_matters(seed, power):
    w, g, a = two_sided_problem(seed)
    step, cols, scale = steps(w, seed, per_column=True), factor(a, DAMPING), 2.0**power
    want = sweep_two_sided(w, factor(g, DAMPING), cols, step, 31)
    assert torch.equal(sweep_two_sided(w, factor(g * scale, DAMPING), cols, step, 31), want)
    assert torch.equal(sweep_two_sided(w * scale, factor(g, DAMPING), cols, step * scale, 31), want)


@pytest.mark.parametrize("fineness", [1.0, 3.0, 15.0])
def test_it_beats_feedback_along_columns_alone_and_that_beats_rounding(fineness):
    """By what the pivots tell: a rounding residual is uniform, so it has step^2 / 12 of variance."""
    w, g, a = two_sided_problem(11, 12, 24, 32)
    rows, cols = factor(g, DAMPING), factor(a, DAMPING)
    step = torch.full((12, 24, 1), 1 / fineness, dtype=torch.float64)
    both = loss(w - step * sweep_two_sided(w, rows, cols, step, None), damped(g), damped(a))
    one = loss(w - step * sweep(w, cols, step, None), damped(g), damped(a))
    none = loss(w - step * (w / step).round(), damped(g), damped(a))
    assert (both < 0.9 * one).all() and (one < 0.9 * none).all()
    told = (rows.pivots.sum(1) * cols.pivots.sum(1)).sum() / (12 * fineness**2)
    assert float(both.sum()) == pytest.approx(float(told), rel=0.05)


def test_dead_inputs_get_zero_and_outputs_without_information_keep_their_weights():
    w, g, a = two_sided_problem(1, 2, 7, 8)
    a[1, 3], a[1, :, 3] = 0, 0
    g[1, 2], g[1, :, 2] = 0, 0
    step, cols = steps(w, 1, per_column=True), factor(a, DAMPING)
    got = sweep_two_sided(w, factor(g, DAMPING), cols, step, None, tile=3)
    assert not got[1, :, 3].any() and got[0, :, 3].any()
    assert torch.equal(got[1, 2], sweep(w, cols, step, None)[1, 2]) and got[1, 2].any()
    for i in range(2):
        assert torch.equal(got[i], twin(w[i], g[i], a[i], step[i]))


def test_a_matrix_of_zeros_stays_zero():
    w, g, a = two_sided_problem(5)
    step = steps(w, 5, per_column=True)
    assert not sweep_two_sided(torch.zeros_like(w), factor(g, DAMPING), factor(a, DAMPING), step, None).any()


def test_one_weight_is_rounded():
    f = factor(torch.tensor([[[2.0]]]), 0.01)
    assert sweep_two_sided(torch.tensor([[[0.9]]]), f, f, torch.full((1, 1, 1), 0.2), None).item() == 4.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_inputs_of_any_precision_are_left_as_they_were(dtype):
    w, g, a = (t.to(dtype) for t in two_sided_problem(6))
    a[:, 3], a[:, :, 3] = 0, 0
    step = steps(w, 6, per_column=False).to(dtype)
    shrink = torch.full_like(step, 0.9)
    w.requires_grad_()
    before = [t.detach().clone() for t in (w, g, a, step, shrink)]
    got = sweep_two_sided(w, factor(g, DAMPING), factor(a, DAMPING), step, 31, shrink)
    assert all(torch.equal(x, y) for x, y in zip((w.detach(), g, a, step, shrink), before, strict=True))
    want = twin(*(t[0].detach().double() for t in (w, g, a, step)), 31, shrink[0].double())
    assert torch.equal(got[0], want) and not got.requires_grad


def test_in_float32_few_codes_differ_and_the_loss_is_as_good():
    w, g, a = two_sided_problem(9, 2, 64, 96)
    known, step = (factor(g, DAMPING), factor(a, DAMPING)), torch.full((2, 64, 1), 0.2)
    exact = sweep_two_sided(w, *known, step, 31)
    single = sweep_two_sided(w, *known, step, 31, dtype=torch.float32)
    assert single.dtype == torch.float32
    assert (exact != single).double().mean() < 0.02
    losses = [loss(w - step * q.double(), g, a) for q in (exact, single)]
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused_by_member(value):
    w, g, a = two_sided_problem(7, 3)
    w[1, 2, 3] = value
    with pytest.raises(ValueError, match="weights must not be NaN or infinite: batch member 1"):
        sweep_two_sided(w, factor(g, DAMPING), factor(a, DAMPING), torch.ones(3, 7, 1), 31)


def test_a_step_must_be_a_positive_number():
    w, g, a = two_sided_problem(7, 2)
    with pytest.raises(ValueError, match="steps must be positive and finite: batch member 0"):
        sweep_two_sided(w, factor(g, DAMPING), factor(a, DAMPING), torch.zeros(2, 7, 1), 31)


def test_a_fisher_matrix_that_is_no_number_has_no_factor():
    _, g, _ = two_sided_problem(7, 2)
    g[1, 0, 0] = float("nan")
    with pytest.raises(HessianNotPositive, match="batch member 1"):
        factor(g, DAMPING)


@given(seed=SEEDS, rho=st.floats(0, 1))
def test_shrinking_the_fisher_matrix_keeps_its_diagonal_and_moves_it_towards_independent_outputs(seed, rho):
    _, g, _ = two_sided_problem(seed, 2)
    before, got = g.clone(), shrunk(g, rho)
    torch.testing.assert_close(got, (1 - rho) * g + rho * torch.diag_embed(g.diagonal(dim1=1, dim2=2)))
    assert torch.equal(got.diagonal(dim1=1, dim2=2), g.diagonal(dim1=1, dim2=2))
    assert torch.equal(g, before) and torch.equal(shrunk(g, 0.0), g)
    assert torch.equal(shrunk(g, 1.0), torch.diag_embed(g.diagonal(dim1=1, dim2=2)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_codes_are_the_same():
    w, g, a = two_sided_problem(10, 3, 70, 150)
    step = steps(w, 10, per_column=True)
    want = sweep_two_sided(w, factor(g, DAMPING), factor(a, DAMPING), step, 31)
    there = sweep_two_sided(w.cuda(), factor(g.cuda(), DAMPING), factor(a.cuda(), DAMPING), step.cuda(), 31)
    assert torch.equal(there.cpu(), want)
