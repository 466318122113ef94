"""Coded arrays come back, at the length that their model promises."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgolf.formats.ans import decode_arrays
from pgolf.pack.ans_coding import encode_arrays

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)


def back(arrays):
    return decode_arrays(encode_arrays(arrays), [a.shape for a in arrays])


def assert_same(got, want):
    assert [a.shape for a in got] == [a.shape for a in want]
    for a, b in zip(got, want, strict=True):
        assert a.dtype == (np.int16 if np.array_equal(b, b.astype(np.int16)) else np.int32)
        assert np.array_equal(a, b)


@settings(max_examples=200, deadline=None)
@given(st.lists(hnp.arrays(st.sampled_from([np.int8, np.int16, np.int32]), SHAPES), max_size=4))
def test_any_arrays_come_back(arrays):
    assert_same(back(arrays), arrays)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 9000), st.integers(0, 9)
)
def test_matrices_with_outliers_come_back(seed, rows, cols, sigma, outliers):
    g = np.random.default_rng(seed)
    a = (g.standard_normal((rows, cols)) * sigma * np.exp(g.standard_normal(cols))).round()
    a.flat[g.integers(0, a.size, outliers)] = g.choice([-32768, 32767], outliers)
    a = a.clip(-32768, 32767).astype(np.int16)
    assert_same(back([a, a.T, a[0], a[:, 0]]), [a, a.T, a[0], a[:, 0]])
