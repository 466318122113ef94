"""Coded arrays come back, at the length that was promised, which is the length that their model implies."""

import brotli
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.coding import ideal_bytes
from pgolf.formats.ans import decode_arrays
from pgolf.pack.ans_coding import encode_arrays, estimate_bytes, report

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)


def scaled(seed=0, rows=300, cols=200, sigma=2.5, by_row=0.0, by_col=0.0, tails=2.0):
    """A generalised Gaussian whose sigmas are a row's times a column's, rounded."""
    g = np.random.default_rng(seed)
    sigmas = sigma * np.exp(by_row * g.standard_normal((rows, 1)) + by_col * g.standard_normal(cols))
    x = g.gamma(1 / tails, size=(rows, cols)) ** (1 / tails) * g.choice([-1, 1], (rows, cols))
    return np.rint(x / x.std() * sigmas).astype(np.int16)


def unseen_tokens(seed=0):
    """An embedding of 400 tokens, 90 of which are what they were at first but for noise."""
    g = np.random.default_rng(seed)
    a = g.standard_normal((400, 96)) * 3
    a[g.permutation(400)[:90]] = g.standard_normal(96) * 3 + g.standard_normal((90, 96)) * 0.4
    return np.rint(a).astype(np.int16)


CASES = {
    "plain": scaled(),
    "fine": scaled(sigma=40),
    "coarse": scaled(sigma=0.3),
    "ternary": scaled(sigma=0.6).clip(-1, 1),
    "long tails": scaled(tails=1.0),
    "short tails": scaled(tails=3.0),
    "by row": scaled(by_row=0.5),
    "by column": scaled(by_col=0.5),
    "by both": scaled(by_row=0.4, by_col=0.4),
    "wide rows": scaled(rows=100, cols=1500, by_row=0.3, by_col=0.2),
    "lopsided": np.abs(scaled()) - 1,
    "even numbers": 2 * scaled(),
    "unseen tokens": unseen_tokens(),
}


def back(arrays):
    return decode_arrays(encode_arrays(arrays), [a.shape for a in arrays])


def assert_same(got, want):
    assert [a.shape for a in got] == [a.shape for a in want]
    for a, b in zip(got, want, strict=True):
        assert a.dtype == (np.int16 if np.array_equal(b, b.astype(np.int16)) else np.int32)
        assert np.array_equal(a, b)


# What goes in comes out


@settings(max_examples=150, deadline=None)
@given(st.lists(hnp.arrays(st.sampled_from([np.int8, np.int16, np.uint8, np.int32]), SHAPES), max_size=4))
def test_any_arrays_come_back(arrays):
    assert_same(back(arrays), arrays)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 9000), st.integers(0, 9)
)
def test_matrices_with_outliers_come_back(seed, rows, cols, sigma, outliers):
    g = np.random.default_rng(seed)
    a = scaled(seed, rows, cols, min(sigma, 5000), by_col=1.0) if rows * cols > 1 else np.array([[seed % 99]])
    a.flat[g.integers(0, a.size, outliers)] = g.choice([-32768, 32767], outliers)
    steps = g.integers(-60, 9, rows)
    arrays = [g.integers(-60, 9, cols), steps, a, a.T, a[0], a[:, 0]]
    assert_same(back(arrays), arrays)


@pytest.mark.parametrize(
    "a",
    [
        np.zeros((0, 5)), np.zeros(0), np.zeros((1, 1)), np.zeros((70, 90)), np.full((70, 90), -7), np.array(3),
        np.full((5, 6), -32768), np.full((5, 6), 32767), np.array([[-32768, 32767]]), np.arange(400).reshape(1, -1),
        np.arange(400).reshape(-1, 1), np.eye(50), np.array([-(2**31), 2**31 - 1]), np.arange(-300, 300) * 50,
    ],
    ids=lambda a: f"{a.shape} {a.min(initial=0):.0f}..{a.max(initial=0):.0f}",
)  # fmt: skip
def test_extreme_arrays_come_back(a):
    assert_same(back([a.astype(np.int64)]), [a.astype(np.int64)])


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_matrix_comes_back(name):
    assert_same(back([CASES[name]]), [CASES[name]])


def test_equal_arrays_make_equal_bytes_whatever_holds_them():
    a = scaled(rows=30, cols=40)
    want = encode_arrays([a])
    for other in (a.astype(np.int8), a.astype(np.int64), np.asfortranarray(a), a.astype(">i4")):
        assert encode_arrays([other]) == want


@pytest.mark.parametrize(
    "a", [np.array([2**31]), np.array([-(2**31) - 1]), np.array([0.0]), np.array([True])]
)
def test_what_is_no_int32_is_refused(a):
    with pytest.raises(ValueError, match="integers that int32 holds"):
        encode_arrays([a])


# How long it is


@pytest.mark.parametrize("sigma", [1.0, 2.5, 40.0])
def test_the_ideal_itself_is_a_gaussians_entropy(sigma):
    want = (0.5 * np.log2(2 * np.pi * np.e * (sigma**2 + 1 / 12))) / 8
    assert ideal_bytes(scaled(sigma=sigma)) / 60_000 == pytest.approx(want, rel=3e-3)


@pytest.mark.parametrize("name", CASES)
def test_a_stream_is_as_long_as_the_best_static_model_implies(name):
    """Within 0.3 % of the ideal, which is written without the coder (benchmarks.coding)."""
    assert len(encode_arrays([CASES[name]])) <= 1.003 * ideal_bytes(CASES[name]) + 8


@pytest.mark.parametrize("name", CASES)
def test_the_estimate_is_what_is_coded(name):
    assert estimate_bytes(CASES[name]) == pytest.approx(len(encode_arrays([CASES[name]])), rel=5e-4, abs=40)


def test_large_matrices_are_estimated_within_a_twentieth_of_a_percent():
    arrays = [
        scaled(1, 1024, 512, 2.6, 0.2, 0.1),
        scaled(2, 512, 1024, 0.8, 0.1, 0.4),
        scaled(3, 2048, 256, 30),
    ]
    assert sum(map(estimate_bytes, arrays)) == pytest.approx(len(encode_arrays(arrays)), rel=5e-4)


def test_the_report_adds_up_to_the_stream():
    arrays = list(CASES.values())
    parts = report(arrays)
    assert sum(part.coded_bytes for part in parts) == pytest.approx(len(encode_arrays(arrays)), abs=10)
    for part, a in zip(parts, arrays, strict=True):
        assert part.ideal_bits == 8 * estimate_bytes(a)
        assert 8 * part.coded_bytes == pytest.approx(part.ideal_bits, rel=1e-3, abs=200)
        assert 0 < part.side_bits < part.ideal_bits


def test_the_model_is_the_one_that_made_the_data():
    models = dict(zip(CASES, [part.model for part in report(list(CASES.values()))], strict=True))
    assert models["plain"] == models["fine"] == "one sigma"
    assert models["by row"] == "sigmas by rows" and models["by column"] == "sigmas by columns"
    assert models["by both"] == models["wide rows"] == "sigmas by rows, columns"
    assert models["ternary"] == models["lopsided"] == models["even numbers"] == "histogram"
    assert models["unseen tokens"].endswith("rows alike")


def test_structure_is_paid_for_in_proportion():
    """Half an octave of spread among columns: about 0.11 bits a weight less than one sigma for all."""
    a = scaled(rows=1000, cols=400, by_col=0.35)
    shuffled = np.random.default_rng(0).permutation(a.ravel()).reshape(a.shape)
    saved = 8 * (estimate_bytes(shuffled) - estimate_bytes(a)) / a.size
    assert saved == pytest.approx(0.5 * np.log2(np.exp(2 * 0.35**2)) / 1.0 - 0.08, abs=0.06)


def test_steps_foretell_sigmas():
    """Rows of equal deviation on grids of their own: their sigmas need not be said twice."""
    g = np.random.default_rng(0)
    rows, columns = g.integers(-20, 20, 200), g.integers(-20, 20, 150)
    a = np.rint(g.standard_normal((200, 150)) * 30 * 2.0 ** (-(rows[:, None] + columns) / 8)).astype(np.int16)
    alone, told, both = estimate_bytes(a), estimate_bytes(a, rows), estimate_bytes(a, rows, columns)
    assert alone - told > 200 * 4 / 8 and told - both > 150 * 3 / 8
    assert report([columns, rows, a])[-1].model == "sigmas by row steps, column steps"
    assert len(encode_arrays([columns, rows, a])) < len(encode_arrays([a, columns, rows])) - 150


def test_many_small_vectors_cost_little_more_than_their_order_0():
    """A small model's steps, without a header of dozens of bytes each."""
    g = np.random.default_rng(0)
    steps = [np.rint(g.standard_normal(64) * 2 - 40).astype(np.int16) for _ in range(66)]
    assert len(encode_arrays(steps)) < sum(map(ideal_bytes, steps)) + 66 * 8


def test_a_smooth_vector_is_cheaper_than_the_same_shuffled():
    rising = np.arange(2000) // 40
    shuffled = np.random.default_rng(0).permutation(rising)
    assert estimate_bytes(rising) < 0.1 * estimate_bytes(shuffled)


def test_it_beats_brotli_on_weights():
    a = scaled(rows=512, cols=512, by_row=0.1, by_col=0.15)
    assert len(encode_arrays([a])) < 0.978 * len(brotli.compress(a.astype(np.int8).tobytes(), quality=11))
