"""GPTQ against its definition, code for code.

The twin is tests.quantize.definition.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.formats.quantized import QuantizedMatrix, steps_of
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.statistics import HESSIANS
from pgolf.quantize.sweep import HessianNotPositive
from tests.quantize import definition

SEEDS = st.integers(0, 2**31 - 1)


def problem(seed: int, rows: int = 5, cols: int = 12, samples: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, and the Gram matrix of correlated inputs of uneven size."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(cols, cols, generator=g) * 0.6 + torch.eye(cols)
    x = (torch.randn(samples, cols, generator=g) @ mix) * (torch.rand(cols, generator=g) * 3 + 0.1)
    return torch.randn(rows, cols, generator=g), x.T @ x / samples


def twin(w: torch.Tensor, h: torch.Tensor, grid: SdClip, damping: float, act_order: bool) -> torch.Tensor:
    """Codes by the definition, in float64, on a grid's own steps."""
    step = steps_of(grid.row_codes(w)).double().unsqueeze(1)
    return definition.twin(w.double(), h.double(), step, damping, act_order, grid.qmax).to(torch.int16)


def weighted_error(w: torch.Tensor, got: QuantizedMatrix, h: torch.Tensor) -> float:
    d = (got.dequantize() - w).double()
    return float(((d @ h.double()) * d).sum())


@settings(max_examples=30)
@given(seed=SEEDS, act_order=st.booleans(), block=st.sampled_from([1, 3, 4, 12, 128]), bits=st.integers(2, 7),
       damping=st.sampled_from([1e-3, 0.01, 0.3]))  # fmt: skip
def test_codes_are_the_definitions_codes(seed, act_order, block, bits, damping):
    w, h = problem(seed)
    grid = SdClip(bits=bits, clip_sigmas=4.0)
    got = Gptq(act_order=act_order, block=block, damping=damping).quantize(w, grid, h)
    assert torch.equal(got.q, twin(w, h, grid, damping, act_order))
    assert torch.equal(got.row, grid.row_codes(w))
    assert got.col is None


@pytest.mark.parametrize("act_order", [True, False])
def test_dead_inputs_get_zero_and_disturb_nothing(act_order):
    w, h = problem(1)
    for dead in (0, 7):
        h[dead], h[:, dead] = 0, 0
    grid = SdClip(bits=4, clip_sigmas=4.0)
    got = Gptq(act_order=act_order, block=5).quantize(w, grid, h)
    assert not got.q[:, [0, 7]].any()
    assert torch.equal(got.q, twin(w, h, grid, 0.01, act_order))


def test_all_inputs_dead_gives_zeros():
    w, _ = problem(0)
    assert not Gptq().quantize(w, SdClip(), torch.zeros(12, 12)).q.any()


@given(seed=SEEDS)
def test_the_block_size_is_a_matter_of_speed_alone(seed):
    w, h = problem(seed, rows=3, cols=17)
    codes = [Gptq(block=b).quantize(w, SdClip(bits=4, clip_sigmas=4.0), h).q for b in (1, 2, 5, 17, 64)]
    assert all(torch.equal(codes[0], c) for c in codes[1:])


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("bits", [3, 4, 6])
def test_it_beats_round_to_nearest_where_it_matters(act_order, bits):
    """Greedy, so not on every matrix; but far ahead over any handful, and on nearly each."""
    grid, wins, ours, theirs = SdClip(bits=bits, clip_sigmas=4.0), 0, 0.0, 0.0
    for seed in range(20):
        w, h = problem(seed, rows=16, cols=24, samples=60)
        a = weighted_error(w, Gptq(act_order=act_order).quantize(w, grid, h), h)
        b = weighted_error(w, Rtn().quantize(w, grid), h)
        wins, ours, theirs = wins + (a <= b), ours + a, theirs + b
    assert wins == 20
    assert ours < 0.5 * theirs


def test_with_uncorrelated_inputs_it_is_round_to_nearest():
    w, _ = problem(3)
    h = torch.diag(torch.rand(12, generator=torch.Generator().manual_seed(0)) + 0.1)
    assert torch.equal(Gptq().quantize(w, SdClip(), h).q, Rtn().quantize(w, SdClip()).q)


def test_the_scale_of_the_hessian_does_not_matter():
    w, h = problem(4)
    assert torch.equal(Gptq().quantize(w, SdClip(), h).q, Gptq().quantize(w, SdClip(), h * 1024).q)


def test_one_column_is_rounded():
    w = torch.tensor([[0.3], [-0.7]])
    grid = SdClip(bits=8, clip_sigmas=1.0)
    assert torch.equal(Gptq().quantize(w, grid, torch.tensor([[2.0]])).q, Rtn().quantize(w, grid).q)


def test_a_zero_row_stays_zero():
    w, h = problem(5)
    w[2] = 0
    assert not Gptq().quantize(w, SdClip(), h).dequantize()[2].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_goes_in_is_left_as_it_was(dtype):
    w, h = (t.to(dtype) for t in problem(6))
    h[3], h[:, 3] = 0, 0
    before = w.clone(), h.clone()
    Gptq().quantize(w, SdClip(), h)
    assert torch.equal(w, before[0])
    assert torch.equal(h, before[1])


@pytest.mark.parametrize("spoil", ["negative", "nan", "indefinite"])
def test_a_hessian_that_is_no_gram_matrix_raises_and_nothing_else_takes_over(spoil):
    w, h = problem(7)
    if spoil == "negative":
        h = -h
    elif spoil == "nan":
        h[2, 2] = float("nan")
    else:
        h[0, 1] = h[1, 0] = 100.0
    with pytest.raises(HessianNotPositive):
        Gptq().quantize(w, SdClip(), h)


def test_it_says_that_it_needs_hessians_and_nothing_else():
    assert Gptq().needs == {HESSIANS}
    assert not Gptq().solves_for_bytes
