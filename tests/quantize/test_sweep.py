"""The sweep against its definition, code for code, and what must hold of its factor.

The twin is tests.quantize.definition.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.quantize.sweep import Factor, HessianNotPositive, factor, sweep
from tests.quantize.definition import twin

SEEDS = st.integers(0, 2**31 - 1)


def problem(
    seed: int, batch: int = 1, rows: int = 5, cols: int = 12, samples: int = 40
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, and the Gram matrices of correlated inputs of uneven size; float64."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(batch, cols, cols, generator=g) * 0.6 + torch.eye(cols)
    x = torch.randn(batch, samples, cols, generator=g) @ mix
    x = (x * (torch.rand(batch, 1, cols, generator=g) * 3 + 0.1)).double()
    return torch.randn(batch, rows, cols, generator=g).double(), x.mT @ x / samples


def steps(w: torch.Tensor, seed: int, per_column: bool, fineness: float = 3.0) -> torch.Tensor:
    """Uneven steps, about a `fineness`-th of a standard deviation."""
    g = torch.Generator().manual_seed(seed + 1)
    shape = (*w.shape[:2], w.shape[2] if per_column else 1)
    return (torch.rand(shape, generator=g) + 0.5).double() / fineness


def weighted(e: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """tr(E H E^T) of each member."""
    return ((e @ h) * e).sum((1, 2))


@settings(max_examples=60)
@given(seed=SEEDS, act_order=st.booleans(), per_column=st.booleans(), shrunk=st.booleans(),
       qmax=st.sampled_from([None, 1, 3, 31]), block=st.sampled_from([1, 3, 4, 12, 64]),
       damping=st.sampled_from([1e-3, 0.01, 0.3]))  # fmt: skip
def test_codes_are_the_definitions_codes(seed, act_order, per_column, shrunk, qmax, block, damping):
    w, h = problem(seed, batch=2)
    step = steps(w, seed, per_column)
    shrink = steps(w, seed + 7, per_column, 1.5) if shrunk else None
    got = sweep(w, factor(h, damping, act_order), step, qmax, shrink, block)
    for i in range(2):
        s = None if shrink is None else shrink[i]
        assert torch.equal(got[i], twin(w[i], h[i], step[i], damping, act_order, qmax, s))


def test_a_worked_example():
    """Two inputs, correlated 1/2, column 0 first: it errs by 0.4 and column 1 makes up for half of that."""
    h = torch.tensor([[[1.0, 0.5], [0.5, 1.0]]])
    f = factor(h, damping=0.0)
    torch.testing.assert_close(f.unit, torch.tensor([[[1.0, 0.5], [0.0, 1.0]]], dtype=torch.float64))
    torch.testing.assert_close(f.pivots, torch.tensor([[0.75, 1.0]], dtype=torch.float64))
    w = torch.tensor([[[1.4, 0.35]]])
    assert sweep(w, f, torch.ones(1, 1, 1), qmax=None).tolist() == [[[1.0, 1.0]]]  # 0.35 + 0.4 / 2 = 0.55


@pytest.mark.parametrize("act_order", [True, False])
def test_dead_inputs_get_zero_and_disturb_nothing(act_order):
    w, h = problem(1, batch=2)
    for dead in (0, 7):
        h[1, dead], h[1, :, dead] = 0, 0
    f, step = factor(h, 0.01, act_order), steps(w, 1, per_column=True)
    got = sweep(w, f, step, 7, block=5)
    assert f.dead.nonzero().tolist() == [[1, 0], [1, 7]]
    assert not got[1][:, [0, 7]].any() and got[0][:, [0, 7]].any()
    for i in range(2):
        assert torch.equal(got[i], twin(w[i], h[i], step[i], 0.01, act_order, 7))


def test_all_inputs_dead_gives_zeros():
    w, _ = problem(0)
    assert not sweep(w, factor(torch.zeros(1, 12, 12), 0.01), torch.ones(1, 5, 1), 31).any()


@given(seed=SEEDS)
def test_the_block_size_is_a_matter_of_speed_alone(seed):
    w, h = problem(seed, rows=3, cols=17)
    f, step = factor(h, 0.01), steps(w, seed, per_column=False)
    codes = [sweep(w, f, step, 31, block=b) for b in (1, 2, 5, 16, 17, 64)]
    assert all(torch.equal(codes[0], c) for c in codes[1:])


@given(seed=SEEDS, act_order=st.booleans())
def test_a_batch_is_its_members_one_by_one(seed, act_order):
    w, h = problem(seed, batch=3, rows=4, cols=9)
    step, shrink = steps(w, seed, True), steps(w, seed, True, 1.2)
    together = sweep(w, factor(h, 0.01, act_order), step, None, shrink, block=4)
    for i in range(3):
        one = slice(i, i + 1)
        alone = sweep(w[one], factor(h[one], 0.01, act_order), step[one], None, shrink[one], block=4)
        assert torch.equal(together[one], alone)


@given(seed=SEEDS, rows=st.permutations(range(6)))
def test_rows_know_nothing_of_each_other(seed, rows):
    w, h = problem(seed, rows=6)
    f, step = factor(h, 0.01), steps(w, seed, per_column=True)
    assert torch.equal(sweep(w[:, rows], f, step[:, rows], 7), sweep(w, f, step, 7)[:, rows])


@given(seed=SEEDS, columns=st.permutations(range(12)))
def test_with_act_order_the_order_the_columns_come_in_does_not_matter(seed, columns):
    w, h = problem(seed)
    step = steps(w, seed, per_column=True)
    moved = sweep(w[..., columns], factor(h[:, columns][..., columns], 0.01), step[..., columns], 7)
    assert torch.equal(moved, sweep(w, factor(h, 0.01), step, 7)[..., columns])


@given(seed=SEEDS, n=st.integers(1, 12), act_order=st.booleans(), damping=st.sampled_from([0.0, 0.01, 0.3]))
def test_the_factors_product_is_the_damped_hessian_in_order(seed, n, act_order, damping):
    _, h = problem(seed, batch=2, cols=n)
    f = factor(h, damping, act_order)
    assert torch.equal(f.unit, f.unit.triu())
    assert (f.unit.diagonal(dim1=1, dim2=2) == 1).all()
    for unit, pivots, p, given_h in zip(f.unit, f.pivots, f.order, h, strict=True):
        damped = given_h + damping * given_h.diagonal().mean() * torch.eye(n, dtype=torch.float64)
        torch.testing.assert_close(unit @ torch.diag(pivots[p]) @ unit.T, damped[p][:, p])
    falling = h.diagonal(dim1=1, dim2=2).take_along_dim(f.order, 1).diff(dim=1)
    assert (falling <= 0).all() if act_order else (f.order == torch.arange(n)).all()


@given(seed=SEEDS, act_order=st.booleans())
def test_pivots_are_one_over_the_squared_diagonal_of_the_upper_factor_of_the_inverse(seed, act_order):
    """U^T U = H^-1: what GPTQ divides its errors by, and D^-1/2 L^-1."""
    _, h = problem(seed)
    f = factor(h, 0.05, act_order)
    p = f.order[0]
    damped = h[0] + 0.05 * h[0].diagonal().mean() * torch.eye(12, dtype=torch.float64)
    upper = torch.linalg.cholesky(torch.linalg.inv(damped[p][:, p]), upper=True)
    torch.testing.assert_close(f.pivots[0, p], upper.diagonal() ** -2)
    torch.testing.assert_close(upper @ f.unit[0], torch.diag(upper.diagonal()), rtol=0, atol=1e-9)


def test_equal_diagonals_keep_their_order():
    assert factor(torch.eye(40).expand(2, -1, -1), 0.01).order.tolist() == [list(range(40))] * 2


@given(seed=SEEDS, act_order=st.booleans())
def test_the_loss_is_the_pivots_times_what_rounding_leaves(seed, act_order):
    """tr(E H E^T) = sum_j d_j |F_j|^2, and F_j = what rounding leaves of column j: at most half a step."""
    w, h = problem(seed, batch=2)
    f, step = factor(h, 0.05, act_order), steps(w, seed, per_column=True)
    e = w - step * sweep(w, f, step, qmax=None)
    eye = torch.eye(12, dtype=torch.float64)
    damped = h + 0.05 * h.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * eye
    home = f.order.argsort(1).unsqueeze(1)
    residual = (e.take_along_dim(f.order.unsqueeze(1), 2) @ f.unit).take_along_dim(home, 2)
    assert (residual.abs() <= 0.5 * step * (1 + 1e-9)).all()
    torch.testing.assert_close((f.pivots.unsqueeze(1) * residual**2).sum((1, 2)), weighted(e, damped))


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("fineness", [1.0, 3.0, 15.0])
def test_it_beats_round_to_nearest_by_what_the_pivots_are_below_the_diagonal(act_order, fineness):
    """A rounding residual is uniform: step^2 / 12 of variance, times d_j after feedback, times H_jj without."""
    w, h = problem(11, batch=20, rows=16, cols=24, samples=60)
    step = torch.full((20, 16, 1), 1 / fineness, dtype=torch.float64)
    f = factor(h, 0.01, act_order)
    diagonal = h.diagonal(dim1=1, dim2=2)
    damped = h + torch.diag_embed(0.01 * diagonal.mean(1, keepdim=True).expand(-1, 24))
    ours = weighted(w - step * sweep(w, f, step, None), damped)
    theirs = weighted(w - step * (w / step).round(), damped)
    assert (ours < 0.75 * theirs).all()
    variance = 16 / fineness**2 / 12
    assert float(ours.sum()) == pytest.approx(variance * float(f.pivots.sum()), rel=0.05)
    assert float(theirs.sum()) == pytest.approx(variance * 1.01 * float(diagonal.sum()), rel=0.05)


def test_with_uncorrelated_inputs_it_is_round_to_nearest():
    w, _ = problem(3)
    h = torch.diag(torch.rand(12, generator=torch.Generator().manual_seed(0)) + 0.1).unsqueeze(0)
    step = steps(w, 3, per_column=True)
    assert torch.equal(sweep(w, factor(h, 0.01), step, None), (w / step).round())


@given(seed=SEEDS, power=st.integers(-20, 20))
def test_neither_the_scale_of_the_hessian_nor_that_of_the_weights_matters(seed, power):
    w, h = problem(seed)
    step, scale = steps(w, seed, per_column=True), 2.0**power
    want = sweep(w, factor(h, 0.01), step, 31)
    assert torch.equal(sweep(w, factor(h * scale, 0.01), step, 31), want)
    assert torch.equal(sweep(w * scale, factor(h, 0.01), step * scale, 31), want)


def test_one_column_is_rounded():
    w = torch.tensor([[[0.3], [-0.7], [9.0]]])
    assert sweep(w, factor(torch.tensor([[[2.0]]]), 0.01), torch.full((1, 3, 1), 0.2), 5).flatten().tolist() == [
        2.0, -3.0, 5.0,
    ]  # fmt: skip


def test_one_row_is_a_row_of_many():
    w, h = problem(8)
    f, step = factor(h, 0.01), steps(w, 8, per_column=True)
    assert torch.equal(sweep(w[:, 2:3], f, step[:, 2:3], None), sweep(w, f, step, None)[:, 2:3])


def test_a_zero_row_stays_zero():
    w, h = problem(5)
    w[0, 2] = 0
    assert not sweep(w, factor(h, 0.01), steps(w, 5, per_column=True), None)[0, 2].any()


def test_without_a_clamp_codes_go_as_far_as_they_must():
    w, h = problem(6)
    w[0, 0, 0] = 1e4
    assert sweep(w, factor(h, 0.01), torch.full((1, 5, 1), 0.5), None)[0, 0].abs().max() > 1e4
    assert sweep(w, factor(h, 0.01), torch.full((1, 5, 1), 0.5), 3).abs().max() == 3


@given(y=st.floats(-40, 40), mu=st.floats(0, 10), rho=st.floats(0.01, 10), deviation=st.floats(0.3, 20))
def test_shrinking_is_the_best_trade_of_error_for_gaussian_bits(y, mu, rho, deviation):
    """Against all the codes there are: no integer costs less than the one that the closed form gives."""
    bits = mu / (2 * deviation**2 * math.log(2))
    q = torch.arange(-50, 51, dtype=torch.float64)
    cost = rho * (y - q) ** 2 / 2 + bits * q**2
    shrink = 1 / (1 + mu / (rho * deviation**2 * math.log(2)))
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    got = sweep(one * y, factor(one, 0.01), one, None, one * shrink).item()
    assert cost[int(got) + 50] <= cost.min() * (1 + 1e-9) + 1e-12


def test_shrinking_makes_smaller_codes_and_pays_in_error():
    w, h = problem(4, batch=8, rows=16, cols=24, samples=60)
    f, step = factor(h, 0.01), torch.full((8, 16, 1), 1.0, dtype=torch.float64)
    plain, shrunk = (
        sweep(w, f, step, None),
        sweep(w, f, step, None, torch.full((8, 1, 1), 0.7).expand(8, 16, 1)),
    )
    assert shrunk.square().mean() < 0.8 * plain.square().mean()
    assert weighted(w - step * shrunk, h).sum() > weighted(w - step * plain, h).sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_inputs_of_any_precision_are_left_as_they_were(dtype):
    w, h = (t.to(dtype) for t in problem(6))
    h[:, 3], h[:, :, 3] = 0, 0
    step = steps(w, 6, per_column=False).to(dtype)
    shrink = torch.full_like(step, 0.9)
    w.requires_grad_()
    before = [t.detach().clone() for t in (w, h, step, shrink)]
    got = sweep(w, factor(h, 0.01), step, 31, shrink)
    assert all(torch.equal(a, b) for a, b in zip((w.detach(), h, step, shrink), before, strict=True))
    want = twin(w[0].detach().double(), h[0].double(), step[0].double(), 0.01, True, 31, shrink[0].double())
    assert torch.equal(got[0], want) and not got.requires_grad


def test_in_float32_few_codes_differ_and_the_loss_is_as_good():
    w, h = problem(9, batch=2, rows=64, cols=96, samples=200)
    f, step = factor(h, 0.01), torch.full((2, 64, 1), 0.2)
    exact, single = sweep(w, f, step, 31), sweep(w, f, step, 31, dtype=torch.float32)
    assert single.dtype == torch.float32
    assert (exact != single).double().mean() < 1e-3
    losses = [weighted(w - step * q.double(), h) for q in (exact, single)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_refused_by_member(value):
    w, h = problem(7, batch=3)
    w[1, 2, 3] = value
    with pytest.raises(ValueError, match="weights must not be NaN or infinite: batch member 1"):
        sweep(w, factor(h, 0.01), torch.ones(3, 5, 1), 31)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_step_must_be_a_positive_number(value):
    w, h = problem(7, batch=2)
    step = torch.ones(2, 5, 1)
    step[1, 4] = value
    with pytest.raises(ValueError, match="steps must be positive and finite: batch member 1"):
        sweep(w, factor(h, 0.01), step, 31)


def test_a_shrink_that_is_no_number_is_refused():
    w, h = problem(7)
    with pytest.raises(ValueError, match="shrinks must not be NaN or infinite: batch member 0"):
        sweep(w, factor(h, 0.01), torch.ones(1, 5, 1), 31, torch.full((1, 5, 1), float("nan")))


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize(
    "spoil", ["negative", "nan", "nan off the diagonal", "infinite", "indefinite", "dead"]
)
def test_a_hessian_that_is_no_gram_matrix_raises_by_member_and_nothing_else_takes_over(spoil, act_order):
    _, h = problem(7, batch=3)
    if spoil == "negative":
        h[2] = -h[2]
    elif spoil == "nan":
        h[2, 2, 2] = float("nan")
    elif spoil == "nan off the diagonal":
        h[2, 0, 1] = float("nan")
    elif spoil == "infinite":
        h[2, 5, 5] = float("inf")
    elif spoil == "indefinite":
        h[2, 0, 1] = h[2, 1, 0] = 100.0
    else:
        h[2, 4, 4] = 0.0  # a Gram matrix would have zeros beside it
        h[2, 4, 5] = h[2, 5, 4] = 100.0
    with pytest.raises(HessianNotPositive, match="batch member 2"):
        factor(h, 0.01, act_order)


def test_a_singular_hessian_needs_its_damping():
    h = torch.ones(1, 6, 6)
    with pytest.raises(HessianNotPositive, match="the damped 6 x 6 Hessian of batch member 0"):
        factor(h, 0.0)
    assert factor(h, 0.01).unit.isfinite().all()


def test_a_factor_is_a_value():
    f = factor(torch.eye(2).unsqueeze(0), 0.01)
    with pytest.raises(AttributeError):
        f.order = f.order  # type: ignore[misc]
    assert isinstance(f, Factor)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_codes_are_the_same():
    w, h = problem(10, batch=3, rows=32, cols=150, samples=300)
    step = steps(w, 10, per_column=True)
    there = sweep(w.cuda(), factor(h.cuda(), 0.01), step.cuda(), 31)
    assert torch.equal(there.cpu(), sweep(w, factor(h, 0.01), step, 31))
