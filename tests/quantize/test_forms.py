"""How steps relate: each form by hand, at one cost a weight, and the Fisher's grid the best there is."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.quantize.forms import (
    FisherGrid,
    FisherRows,
    TensorClips,
    TwoSided,
    TypeClips,
    floored,
    relative_steps,
    worth,
)

SEEDS = st.integers(0, 2**31 - 1)
FORMS = [TypeClips(), TensorClips(), FisherRows(), FisherGrid(), TwoSided()]


def known(seed: int, batch: int = 2, rows: int = 5, cols: int = 4) -> tuple[torch.Tensor, ...]:
    """Fisher of rows, pivots of columns, deviations of rows."""
    gen = torch.Generator().manual_seed(seed)
    g, spread = (torch.rand(batch, rows, generator=gen, dtype=torch.float64) + 0.1 for _ in range(2))
    return g, torch.rand(batch, cols, generator=gen, dtype=torch.float64) * 3 + 0.1, spread


def steps(form, g, d, spread, by_token=False):
    """Whole step matrices at kappa = 1, each matrix with a clip of its own."""
    row, col = relative_steps(form, g, d, spread, worth(g, d, spread), by_token)
    cols = torch.ones_like(d) if col is None else col
    return row.unsqueeze(2) * cols.unsqueeze(1)


def test_worked_examples():
    """Rows worth 1 and 4, columns that cost 1 and 9 (mean 5, geometric mean 3), deviations of 2 and 0.5."""
    g, d, spread = (torch.tensor([x], dtype=torch.float64) for x in ([1.0, 4.0], [1.0, 9.0], [2.0, 0.5]))
    cost = worth(g, d, spread).item()
    assert cost == (1 * 4 + 4 * 0.25) / 2 * 5
    by_deviation = [[2 / math.sqrt(cost)] * 2, [0.5 / math.sqrt(cost)] * 2]
    by_worth = [[1 / math.sqrt(5)] * 2, [1 / math.sqrt(20)] * 2]
    by_both = [[1, 1 / 3], [1 / 2, 1 / 6]]
    for form, by_token, wanted in [
        (TypeClips(), False, by_deviation), (TypeClips(), True, by_deviation), (TensorClips(), False, by_deviation),
        (TensorClips(), True, by_worth), (FisherRows(), False, by_worth), (FisherGrid(), False, by_both),
        (TwoSided(), True, by_both),
    ]:  # fmt: skip
        got = steps(form, g, d, spread, by_token)[0].tolist()
        assert got == [pytest.approx(row) for row in wanted], form.kind


@given(seed=SEEDS)
def test_each_formula_is_its_loop(seed):
    g, d, spread = known(seed)
    clip = torch.tensor([0.7, 2.5], dtype=torch.float64)
    for form in FORMS:
        row, col = relative_steps(form, g, d, spread, clip, by_token=False)
        for b in range(2):
            mean = sum(d[b].tolist()) / 4
            middle = math.exp(sum(math.log(x) for x in d[b].tolist()) / 4)
            for r in range(5):
                wanted = {
                    "type_clips": spread[b, r].item() / math.sqrt(clip[b].item()),
                    "tensor_clips": spread[b, r].item() / math.sqrt(clip[b].item()),
                    "fisher_rows": 1 / math.sqrt(g[b, r].item() * mean),
                }.get(form.kind, 1 / math.sqrt(g[b, r].item() * middle))
                assert row[b, r].item() == pytest.approx(wanted)
            if form.kind in ("fisher_grid", "two_sided"):
                assert col[b].tolist() == pytest.approx([math.sqrt(middle / x) for x in d[b].tolist()])
            else:
                assert col is None


@given(seed=SEEDS, by_token=st.booleans())
def test_a_weight_costs_the_same_on_average_whatever_the_form(seed, by_token):
    """kappa^2 / 24 at kappa = 1: so one kappa serves all matrices, and has one price."""
    g, d, spread = known(seed)
    for form in FORMS:
        s = steps(form, g, d, spread, by_token)
        cost = (g.unsqueeze(2) * d.unsqueeze(1) * s.square()).mean((1, 2))
        assert cost.tolist() == pytest.approx([1, 1])


def test_matrices_that_share_a_clip_cost_that_on_average_together():
    g, d, spread = known(3)
    shared = worth(g, d, spread).mean().expand(2)
    row, _ = relative_steps(TypeClips(), g, d, spread, shared, by_token=False)
    assert (g * row.square()).mean(1).mul(d.mean(1)).mean().item() == pytest.approx(1)
    assert (row / spread).unique().numel() <= 2, "one clip (but for its last bit)"


@given(seed=SEEDS)
def test_no_other_grid_of_the_same_rate_costs_less(seed):
    """Steps are exchanged at a constant sum of logarithms, and every exchange costs."""
    g, d, spread = known(seed)
    best = steps(FisherGrid(), g, d, spread)
    gen = torch.Generator().manual_seed(seed)
    nudge = torch.randn(best.shape, generator=gen, dtype=torch.float64) * 0.3
    nudge = nudge - nudge.mean((1, 2), keepdim=True)
    weigh = g.unsqueeze(2) * d.unsqueeze(1)
    assert ((weigh * (best * nudge.exp()).square()).sum((1, 2)) > (weigh * best.square()).sum((1, 2))).all()


@given(seed=SEEDS, factor=st.sampled_from([1e-6, 0.25, 64.0, 1e9]))
def test_units_cancel(seed, factor):
    """Those of the loss and of the inputs scale steps by a root; those of the weights meet in the clip."""
    g, d, spread = known(seed)
    for form in FORMS:
        plain = steps(form, g, d, spread)
        torch.testing.assert_close(steps(form, g * factor, d, spread), plain / math.sqrt(factor))
        torch.testing.assert_close(steps(form, g, d * factor, spread), plain / math.sqrt(factor))
        torch.testing.assert_close(steps(form, g, d, spread * factor), plain)


def test_column_factors_leave_the_rows_their_rate():
    """Their geometric mean is 1: a row's step says what its weights cost in bits on average."""
    _, col = relative_steps(FisherGrid(), *known(4), torch.ones(2, dtype=torch.float64), by_token=False)
    assert col.log().mean(1).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_worthless_rows_count_as_a_share_of_the_mean():
    g = torch.tensor([[0.0, 4.0, 8.0, 0.03], [1.0, 1.0, 1.0, 1.0]])
    assert floored(g, 0.01).tolist() == [pytest.approx([0.030075, 4.0, 8.0, 0.030075]), [1.0] * 4]
    assert floored(g[0], 0.5).tolist() == pytest.approx([1.50375, 4.0, 8.0, 1.50375])
