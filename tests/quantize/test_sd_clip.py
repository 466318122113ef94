"""SDClip's grid: a step from the row's spread, rounded as it is stored before anybody divides by it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.formats.quantized import COARSEST, FINEST, steps_of
from pgolf.quantize.sd_clip import SdClip

SEEDS = st.integers(0, 2**31 - 1)


def gaussian(seed: int, rows: int = 8, cols: int = 64) -> torch.Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_grid_is_symmetric_and_fits_its_bits(bits):
    qmax = SdClip(bits=bits).qmax
    assert qmax == 2 ** (bits - 1) - 1
    codes = SdClip(bits=bits).codes(torch.linspace(-1e4, 1e4, 101), torch.tensor(0.1))
    assert codes.min() == -qmax
    assert codes.max() == qmax


@given(seed=SEEDS, bits=st.integers(2, 8), sigmas=st.floats(0.5, 30))
def test_the_step_is_the_nearest_to_sigmas_times_the_rows_deviation_over_qmax(seed, bits, sigmas):
    w = gaussian(seed)
    grid = SdClip(bits=bits, clip_sigmas=sigmas)
    for row, code in zip(w.double(), grid.row_codes(w), strict=True):
        mean = sum(row.tolist()) / len(row)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in row.tolist()) / len(row))
        assert code.item() == round(8 * math.log2(sigmas * deviation / grid.qmax))
    assert grid.row_codes(w).dtype == torch.int16


def test_one_outlier_does_not_set_the_step_of_another_row():
    w = gaussian(0)
    spoilt = w.clone()
    spoilt[3, 5] = 1000.0
    same = SdClip().row_codes(w) == SdClip().row_codes(spoilt)
    assert same.tolist() == [i != 3 for i in range(8)]


def test_steps_stay_in_the_range_of_step_codes():
    codes = SdClip().row_codes(torch.cat([torch.zeros(1, 64), gaussian(0, 1) * 1e-9, gaussian(0, 1) * 1e9]))
    assert codes.tolist() == [FINEST, FINEST, COARSEST]
    assert steps_of(codes).tolist() == [2.0**-20, 2.0**-20, 2.0**10]


@given(seed=SEEDS)
def test_the_same_grid_can_be_said_with_other_bits(seed):
    w = gaussian(seed)
    a, b = SdClip(bits=6, clip_sigmas=10.0), SdClip(bits=8, clip_sigmas=10.0 * 127 / 31)
    assert torch.equal(a.row_codes(w), b.row_codes(w))


@pytest.mark.parametrize("change", [{"bits": 1}, {"bits": 9}, {"clip_sigmas": 0}, {"clip_sigma": 3}])
def test_an_impossible_or_misspelt_grid_is_refused(change):
    with pytest.raises(ValidationError):
        SdClip(**change)
