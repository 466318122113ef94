"""Round-to-nearest: half a stored step at most, row by row, and no preferred scale."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.formats.quantized import FINEST
from pgolf.model.roles import Role
from pgolf.quantize.problem import Problem
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.statistics import Statistics

SEEDS = st.integers(0, 2**31 - 1)


def gaussian(seed: int) -> torch.Tensor:
    return torch.randn(8, 64, generator=torch.Generator().manual_seed(seed))


def test_a_worked_example():
    """The row's deviation is 1 and its largest is 2, so 3 bits (qmax 3) at 3 sigmas make a step of exactly 1."""
    got = Rtn().quantize(torch.tensor([[-2.0, 2.0, 0, 0, 0, 0, 0, 0]]), SdClip(bits=3, clip_sigmas=3.0))
    assert got.step.item() == 1.0
    assert got.q.tolist() == [[-2, 2, 0, 0, 0, 0, 0, 0]]


@given(seed=SEEDS, bits=st.integers(2, 8))
def test_unclipped_weights_move_at_most_half_a_stored_step(seed, bits):
    w, grid = gaussian(seed), SdClip(bits=bits, clip_sigmas=2.0)
    got = Rtn().quantize(w, grid)
    inside = got.q.abs() < grid.qmax
    assert (((got.dequantize() - w).abs() / got.step)[inside] <= 0.5 + 1e-5).all()
    assert got.q.abs().max() <= grid.qmax


@given(seed=SEEDS)
def test_every_row_has_its_own_grid_and_no_preferred_scale(seed):
    w, powers = gaussian(seed), 2.0 ** torch.arange(-4, 4).unsqueeze(1)
    assert torch.equal(Rtn().quantize(w * powers, SdClip()).q, Rtn().quantize(w, SdClip()).q)


@given(seed=SEEDS)
def test_clipping_keeps_the_sign_and_the_largest_code(seed):
    w = gaussian(seed)
    grid = SdClip(bits=4, clip_sigmas=1.0)
    got = Rtn().quantize(w, grid)
    beyond = w.abs() > (grid.qmax + 0.51) * got.step
    assert (got.q[beyond] == grid.qmax * w.sign()[beyond]).all()


def test_a_zero_row_decodes_to_zero():
    got = Rtn().quantize(torch.zeros(1, 16), SdClip())
    assert got.row.item() == FINEST
    assert not got.dequantize().any()


def test_no_hessian_is_asked_for_and_none_is_used():
    assert Rtn().needs == frozenset()
    weights = {"w": gaussian(0)}
    plain, told = (
        Rtn().quantize_all(Problem(weights, {"w": Role.MLP}, statistics, lambda _: 0, 0))["w"]
        for statistics in (Statistics(), Statistics(hessians={"w": torch.eye(64)}))
    )
    assert torch.equal(plain.q, told.q)
    assert torch.equal(plain.q, Rtn().quantize(weights["w"], SdClip()).q)


def test_a_misspelt_knob_is_an_error_and_no_default():
    with pytest.raises(ValidationError, match="grid\n"):
        Rtn.model_validate({"kind": "rtn", "grid": {}})
