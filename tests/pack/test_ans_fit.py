"""What a fit says it costs is what its tables say, value by value."""

import math

import numpy as np
import pytest

from pgolf.formats import ans
from pgolf.pack.ans_fit import BINS, EDGES, FINE, bins_of, fit_matrix, fit_vector, value_bits
from tests.pack.test_ans_coding import CASES, scaled


def exact_bits(value, level, shape):
    """One value's cost: its symbol's share of 2^24, the plain bits of a large sigma, those of an escape."""
    shift = max((level - ans.LARGE) // 8 + 1, 0)
    frequencies = ans.table(level - 8 * shift, shape).tolist()
    largest = len(frequencies) // 2 - 1
    high = (value + (1 << shift >> 1)) >> shift
    symbol = high + largest if abs(high) <= largest else 2 * largest + 1
    return 24 - math.log2(frequencies[symbol]) + shift + 32 * (abs(high) > largest)


@pytest.mark.parametrize("name", ["plain", "coarse", "long tails", "by row", "by column", "by both"])
def test_a_fits_bits_are_the_sum_over_values_of_their_tables(name):
    """The slow twin: levels taken from the answers to the reader, every value looked up by itself."""
    a = CASES[name][:60, :50]
    fit = fit_matrix(a)
    answers = iter(fit.header)
    shape, parts, level = next(answers), next(answers), next(answers)
    levels = np.full(a.shape, level)
    for bit, reshaped in ((ans.ROWS, (-1, 1)), (ans.COLUMNS, (1, -1))):
        if parts & bit:
            stride, steps = next(answers), followed(answers)
            levels = levels + stride * np.array(steps).reshape(reshaped)
    want = sum(exact_bits(int(x), int(lv), shape) for x, lv in zip(a.ravel(), levels.ravel(), strict=True))
    assert fit.bits - fit.side == pytest.approx(want, rel=1e-5)
    values = list(fit.answers())[-1]
    by_level = sorted(range(a.size), key=lambda i: levels.ravel()[i])
    assert values.tolist() == a.ravel()[by_level].tolist()


def followed(answers):
    """A vector from its answers, as the reader's docstring has it."""
    start, gain, _, _, residuals = (next(answers) for _ in range(5))
    level, out = start * 256, []
    for r in residuals.tolist():
        out.append(math.floor(level / 256 + 0.5) + r)
        level += math.floor((256 * out[-1] - level) / 2**gain)
    return out


@pytest.mark.parametrize("wander", [0.0, 0.1, 0.3, 1.0, 5.0])
def test_a_vector_is_its_residuals_around_what_it_was_near_to(wander):
    g = np.random.default_rng(0)
    v = np.rint(np.cumsum(g.standard_normal(300)) * wander + g.standard_normal(300) * 4).astype(int)
    fit = fit_vector(v, may_be_histogram=False)
    assert followed(iter([*fit.header, fit.values])) == v.tolist()


def test_what_wanders_is_followed_and_noise_is_not():
    g = np.random.default_rng(0)
    gains = [fit_vector(v).header[1] for v in (np.cumsum(g.integers(-5, 6, 500)), g.integers(-5, 6, 500))]
    assert gains[0] == 0 and gains[1] >= 4


def test_bins_are_magnitudes_one_by_one_then_by_parts_of_an_octave():
    assert EDGES[:70].tolist() == [*range(64), 64, 69, 76, 82, 90, 98] and len(EDGES) == BINS + 1
    x = np.array([0, 1, -1, 63, -64, 68, 69, -32768, 32767])
    want = [np.flatnonzero(abs(v) >= EDGES[:-1])[-1] for v in x]
    for dtype in (np.int16, np.int32, np.int64):
        assert bins_of(x.astype(dtype)).tolist() == want
    assert bins_of(np.array([-128, 127], np.int8)).tolist() == bins_of(np.array([128, 127])).tolist()


@pytest.mark.parametrize(("level", "shape"), [(0, 0), (20, 3), (42, 4), (71, 7), (72, 4), (100, 0), (255, 5)])
def test_a_bins_bits_are_its_values_mean(level, shape):
    bits = value_bits(shape)[:, level]
    for i in [*range(0, FINE, 9), 66, 80, 100]:
        members = range(EDGES[i], EDGES[i + 1])
        want = np.mean([exact_bits(sign * v, level, shape) for v in members for sign in (1, -1)])
        assert bits[i] == pytest.approx(want, rel=0.02)


def test_levels_that_noise_alone_would_want_are_not_paid_for():
    """Forty values tell a sigma to a sixth: on equal rows no levels are sent, on clearly unequal ones they are."""
    assert fit_matrix(scaled(rows=400, cols=40)).header[1] == 0
    assert fit_matrix(scaled(rows=400, cols=40, by_row=0.3)).header[1] == ans.ROWS


def test_levels_are_chosen_with_their_own_price_in_view():
    """Rows that hardly differ: it pays to say so roughly. Each row's own best level would not."""
    a = scaled(rows=600, cols=60, by_row=0.1)
    fit = fit_matrix(a)
    assert fit.header[1] == ans.ROWS and fit.side < 600
