"""Grids that end at an order statistic: against their definition, and what a weight costs on them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from pgolf.formats.quantized import FINEST, steps_of
from pgolf.model.roles import Role
from pgolf.quantize.clip_search import PERCENTILES, ClipSearch, RowMax
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.sd_clip import SdClip
from search_spaces.quantize.clip_search import clip_search, row_max
from tests.quantize.problems import problem

SEEDS = st.integers(0, 2**31 - 1)


def heavy(seed: int, rows: int = 6, cols: int = 400) -> torch.Tensor:
    """Rows of many kinds: from Gaussian to a few giants."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=g) * torch.rand(rows, cols, generator=g).pow(
        -torch.arange(rows).view(-1, 1) / 6
    )


def errors(row: np.ndarray, qmax: int) -> list[tuple[float, int]]:
    """Of one row: the squared error at every percentile with the step that is stored, and that step's code."""
    out = []
    for p in PERCENTILES:
        clip = np.quantile(np.abs(row.astype(np.float64)), p)
        code = int(np.clip(np.round(8 * np.log2(clip / qmax)), -160, 80))
        step = float(steps_of(torch.tensor([code]))[0])
        q = np.clip(np.round(row.astype(np.float32) / np.float32(step)), -qmax, qmax)
        out.append((float(((row - step * q.astype(np.float64)) ** 2).sum()), code))
    return out


@given(seed=SEEDS, bits=st.integers(2, 8))
def test_every_row_has_the_best_of_five_percentiles(seed, bits):
    w, grid = heavy(seed), ClipSearch(bits=bits)
    got = grid.row_codes(w).tolist()
    for row, code in zip(w.numpy(), got, strict=True):
        tried = errors(row, grid.qmax)
        assert min(e for e, _ in tried) == pytest.approx(next(e for e, c in tried if c == code), rel=1e-9)


def test_rows_choose_for_themselves():
    """A giant that is worth keeping in one row, clipped in another; the published search had one choice for both."""
    w = heavy(0, rows=6, cols=4000)
    steps = steps_of(ClipSearch(bits=4).row_codes(w)) * 7 / w.abs().amax(1)
    assert steps.max() > 0.9
    assert steps.min() < 0.7


def test_the_row_maximum_is_never_clipped():
    for seed in range(20):
        w = heavy(seed)
        for bits in range(2, 9):
            grid = RowMax(bits=bits)
            step = steps_of(grid.row_codes(w)).unsqueeze(1)
            assert ((w - step * grid.codes(w, step)).abs() <= step * 0.5001).all()
            assert (step.flatten() * grid.qmax <= w.abs().amax(1) * 2**0.125 * 1.0001).all(), (
                "nor wider than it must"
            )


@pytest.mark.parametrize("grid", [ClipSearch(), RowMax()])
def test_no_floor_and_no_preferred_scale(grid):
    w = heavy(1)
    tiny = w * 2.0**-10
    assert torch.equal(grid.row_codes(tiny), grid.row_codes(w) - 80)
    assert grid.row_codes(torch.zeros(1, 9)).tolist() == [FINEST]


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
@pytest.mark.parametrize("cols", [64, 512, 2048])
@pytest.mark.parametrize("kind", [ClipSearch, RowMax])
def test_expected_bits_are_within_a_twentieth_of_what_gaussian_rows_take(kind, cols, bits):
    grid = kind(bits=bits)
    w = torch.randn(400_000 // cols, cols, generator=torch.Generator().manual_seed(0))
    codes = grid.codes(w, steps_of(grid.row_codes(w)).unsqueeze(1))
    normed = np.unique(codes.numpy(), return_counts=True)[1] / codes.numel()
    assert grid.expected_bits(cols) == pytest.approx(float(-(normed * np.log2(normed)).sum()), rel=0.05)


def test_longer_rows_reach_further_and_so_cost_less():
    for grid in (RowMax(), ClipSearch()):
        assert grid.expected_bits(64) > grid.expected_bits(512) > grid.expected_bits(4096)


def test_a_role_may_have_any_grid_and_one_without_a_kind_is_sd_clip():
    read = RoleGrids.model_validate(
        {
            "mlp": {"bits": 5, "clip_sigmas": 9.0},
            "attention": {"kind": "row_max"},
            "embedding": {"kind": "clip_search"},
        }
    )
    assert (read.mlp, read.attention, read.embedding) == (
        SdClip(bits=5, clip_sigmas=9.0),
        RowMax(),
        ClipSearch(),
    )
    assert RoleGrids.model_validate(read.plain()) == read
    assert read.expected_bits(Role.ATTENTION, 64, 512) == 64 * 512 * RowMax().expected_bits(512) + 2.5 * 64


def test_a_quantizer_uses_them():
    p = problem()
    got = Rtn(grids=RoleGrids(embedding=ClipSearch(bits=4), mlp=RowMax(bits=3))).quantize_all(p)
    assert torch.equal(got["table"].row, ClipSearch(bits=4).row_codes(p.weights["table"]))
    assert torch.equal(got["up"].row, RowMax(bits=3).row_codes(p.weights["up"]))
    assert got["up"].q.abs().max() == 3


def test_the_spaces():
    assert clip_search(FixedTrial({"g.bits": 5}), "g") == ClipSearch(bits=5)
    assert row_max(FixedTrial({"g.bits": 7}), "g") == RowMax(bits=7)
