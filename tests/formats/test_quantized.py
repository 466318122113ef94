"""Quantized models and checkpoints on disk: exact, without pickle, and refused when damaged."""

import json
import math
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgolf.errors import StoreError
from pgolf.formats.arrays import read_arrays, write_arrays
from pgolf.formats.checkpoint import META, WEIGHTS, Checkpoint
from pgolf.formats.quantized import (
    COARSEST,
    CODES,
    FINEST,
    LAYOUT,
    GroupedMatrix,
    LowRankMatrix,
    QuantizedMatrix,
    QuantizedModel,
    array_shapes,
    matrix_of,
    same,
    step_codes,
    steps_of,
)
from tests.formats.samples import assert_equal, grouped, low_rank, quantized, scaled


def test_codes_times_steps_are_the_weights():
    """Steps of 2^(-8/8) and 2^(-27/8): a half, and as near a tenth as there is."""
    m = QuantizedMatrix(
        torch.tensor([[1, -2], [3, 0]], dtype=torch.int16), torch.tensor([-8, -27], dtype=torch.int16)
    )
    tenth = float(np.float32(2.0 ** (-27 / 8)))  # as it is stored
    assert m.dequantize().tolist() == [[0.5, -1.0], [float(np.float32(3 * tenth)), 0.0]]
    assert m.dequantize().dtype == torch.float32


def test_a_step_is_the_power_of_two_correctly_rounded_whatever_its_code():
    """2^(k/8) in 60 digits, rounded to float32 by hand: 24 bits, to nearest."""
    codes = torch.arange(2 * FINEST, 2 * COARSEST + 1, dtype=torch.int16)
    with localcontext(prec=60):
        for code, step in zip(codes.tolist(), steps_of(codes).tolist(), strict=True):
            exact = Decimal(2) ** (Decimal(code) / 8)
            ulp = Decimal(2) ** (code // 8 - 23)
            assert Decimal(step) == (exact / ulp).to_integral_value() * ulp


@given(codes=hnp.arrays(np.int16, hnp.array_shapes(min_dims=0, max_dims=3), elements=st.integers(-500, 500)))
def test_steps_have_the_shape_of_their_codes_and_come_back_as_them(codes):
    steps = steps_of(torch.from_numpy(codes))
    assert (tuple(steps.shape), steps.dtype) == (codes.shape, torch.float32)
    again = step_codes(steps)
    assert again.dtype == torch.int16
    assert torch.equal(again, torch.from_numpy(codes).clamp(FINEST, COARSEST))


@given(step=st.floats(2.0**-19.9, 2.0**9.9))
def test_the_nearest_step_code_is_nearest_in_octaves(step):
    (code,) = step_codes(torch.tensor([step], dtype=torch.float64)).tolist()
    assert abs(code - 8 * math.log2(step)) <= 0.5 + 1e-9


def test_steps_beyond_the_codes_become_the_finest_or_the_coarsest():
    steps = torch.tensor([0.0, -1.0, float("nan"), 1e-30, 1e30, float("inf")])
    assert step_codes(steps).tolist() == [FINEST] * 4 + [COARSEST] * 2


@given(
    seed=st.integers(0, 2**31 - 1), rows=st.integers(0, 5), cols=st.integers(0, 5), by_column=st.booleans()
)
def test_every_weight_is_its_code_times_the_steps_of_its_row_and_column(seed, rows, cols, by_column):
    m = scaled(torch.Generator().manual_seed(seed), rows, cols, by_column=by_column)
    got = m.dequantize()
    assert (m.shape, tuple(got.shape)) == ((rows, cols), (rows, cols))
    for r in range(rows):
        for c in range(cols):
            code = int(m.row[r]) + (int(m.col[c]) if by_column else 0)
            step = np.float32(float(Decimal(2) ** (Decimal(code) / 8)))
            assert got[r, c].item() == np.float32(int(m.q[r, c])) * step


@given(seed=st.integers(0, 2**31 - 1), rank=st.integers(1, 4), groups=st.sampled_from([1, 2, 3, 6]))
def test_a_low_rank_correction_is_its_product(seed, rank, groups):
    """Against float64, within the rounding of `rank` float32 products and sums."""
    m = low_rank(torch.Generator().manual_seed(seed), 5, 6, rank, groups)
    a, b = m.a.dequantize().double(), m.b.dequantize().double().view(rank, 6)
    exact = m.base.dequantize().double() + a.T @ b
    room = 2.0**-23 * (rank + 2) * (m.base.dequantize().double().abs() + a.abs().T @ b.abs())
    assert ((m.dequantize().double() - exact).abs() <= room).all()
    assert m.dequantize().dtype == torch.float32
    assert m.shape == (5, 6)


def test_a_low_rank_correction_is_summed_from_the_first_term_on():
    """A matrix product may add in any order: 1 + 2^-24 - 1 is 0 from the left, and 2^-24 in another."""
    ones = QuantizedMatrix(torch.ones(3, 1).short(), torch.tensor([0, -192, 0], dtype=torch.int16))
    signs = QuantizedMatrix(torch.tensor([[1], [1], [-1]]).short(), torch.zeros(3, dtype=torch.int16))
    nothing = QuantizedMatrix(torch.zeros(1, 1).short(), torch.zeros(1, dtype=torch.int16))
    assert LowRankMatrix(nothing, ones, signs).dequantize().item() == 0
    turned = [QuantizedMatrix(m.q[[0, 2, 1]], m.row[[0, 2, 1]]) for m in (ones, signs)]
    assert LowRankMatrix(nothing, *turned).dequantize().item() == 2.0**-24


@given(
    seed=st.integers(0, 2**31 - 1), rows=st.integers(0, 5), cols=st.integers(0, 5), group=st.integers(1, 40)
)
def test_a_groups_mean_magnitude_is_its_alpha(seed, rows, cols, group):
    """Group after group, the last one as short as it comes; a group of zeros stays zero."""
    m = grouped(torch.Generator().manual_seed(seed), rows, cols, group)
    flat, got = m.q.flatten().tolist(), m.dequantize()
    assert (m.shape, tuple(got.shape), got.dtype) == ((rows, cols), (rows, cols), torch.float32)
    for g, alpha in enumerate(m.alpha.tolist()):
        codes = flat[g * group : (g + 1) * group]
        weights = got.flatten()[g * group : (g + 1) * group].tolist()
        filled = sum(map(abs, codes))
        scale = np.float32(np.float32(alpha) * np.float32(len(codes)) / np.float32(max(filled, 1)))
        assert weights == [code * scale for code in codes]
        if filled:
            assert sum(map(abs, weights)) / len(codes) == pytest.approx(alpha, rel=1e-6)
    assert len(m.alpha) * group >= len(flat)


def test_a_grouped_matrix_by_hand():
    """Eight weights in groups of three: mean magnitudes 2, 1 and 0.5 spread over what is not zero."""
    m = GroupedMatrix(
        torch.tensor([[1, 0, -1, 0], [0, 0, 1, 1]], dtype=torch.int16),
        torch.tensor([2.0, 1.0, 0.5]).half(),
        3,
    )
    assert m.dequantize().tolist() == [[3, 0, -3, 0], [0, 0, 0.5, 0.5]]


def test_every_kind_of_matrix_comes_apart_and_together():
    kinds = set()
    for m in quantized().matrices.values():
        tree = json.loads(json.dumps(m.tree()))
        shapes = {part: tuple(a.shape) for part, a in m.arrays().items()}
        assert array_shapes(tree) == shapes
        assert list(array_shapes(tree)) == list(m.arrays()), "the order in which they are stored"
        again = matrix_of(tree, m.arrays())
        assert type(again) is type(m)
        assert again.tree() == m.tree() == tree
        assert all(
            torch.equal(a, b) for a, b in zip(again.arrays().values(), m.arrays().values(), strict=True)
        )
        assert torch.equal(again.dequantize(), m.dequantize())
        kinds.add(tree[0])
    assert kinds == {"scaled", "low_rank", "grouped"}


SCALED = ["scaled", 3, 4, False]


@pytest.mark.parametrize("tree", [
    [], ["scaled"], ["scaled", 3, 4], ["scaled", -1, 4, False], ["scaled", 3, -4, True],
    ["scaled", 3.0, 4, False], ["scaled", "3", 4, False], ["scaled", 3, 4, 0], ["scaled", 3, 4, None],
    ["scaled", 3, 4, False, 1], ["square", 3, 4, False],
    ["grouped", 3, 4, 0], ["grouped", 3, 4, -2], ["grouped", 3, 4, 2**63], ["grouped", 3, 4, 1.5], ["grouped", 3, 4],
    ["grouped", -3, 4, 2],
    ["low_rank", SCALED, SCALED], ["low_rank", SCALED, SCALED, None],
    ["low_rank", ["grouped", 3, 4, 2], SCALED, SCALED],
    ["low_rank", SCALED, ["scaled", 2, 5, False], ["scaled", 2, 4, False]],  # a is [rank, rows]
    ["low_rank", SCALED, ["scaled", 2, 3, False], ["scaled", 2, 5, False]],  # b is [rank, cols]
    ["low_rank", SCALED, ["scaled", 2, 3, False], ["scaled", 1, 8, False]],  # each row of b in rows of its own
    ["low_rank", SCALED, ["scaled", 2, 3, False], ["scaled", 3, 4, False]],
    ["low_rank", SCALED, ["scaled", 0, 3, False], ["scaled", 0, 4, False]],  # no correction at all
    ["low_rank", ["low_rank", SCALED, ["scaled", 2, 3, False], ["scaled", 2, 4, False]], SCALED, SCALED],
])  # fmt: skip
def test_a_tree_that_no_matrix_has_is_refused(tree):
    with pytest.raises(ValueError, match="no matrix is made up as"):
        array_shapes(tree)


@pytest.mark.parametrize("layout", ["[]", "7", "null", "{", '{"a.w": 7}', '{"a.w": ["mlp"]}', '{"a.w": ["mlp", []]}',
                                    '{"gone": ["mlp", ["scaled", 6, 10, false]]}'])  # fmt: skip
def test_a_layout_that_says_what_cannot_be_is_a_store_error(tmp_path, layout):
    quantized().write(tmp_path)
    (tmp_path / LAYOUT).write_text(layout)
    with pytest.raises(StoreError, match="layout"):
        QuantizedModel.read(tmp_path)


def test_models_are_the_same_or_differ_by_name():
    assert same(quantized(), quantized()) is None
    for name, m in quantized().matrices.items():
        for part in m.arrays():
            other = quantized()
            other.matrices[name].arrays()[part].view(-1)[-1] += 1
            assert same(quantized(), other) == same(other, quantized()) == name
        lacks = quantized()
        del lacks.matrices[name]
        assert same(quantized(), lacks) == same(lacks, quantized()) == name
    other = quantized()
    other.rest["scalar"].add_(1)
    assert same(quantized(), other) == "scalar"
    low = quantized()
    low.matrices["low"] = low.matrices["low"].base
    assert same(quantized(), low) == same(low, quantized()) == "low"
    for change in ({"model": {"layers": 2}}, {"vocab_size": 299}, {"roles": {}}):
        assert same(quantized(), replace(quantized(), **change)) == "the config, the vocabulary or the roles"


def test_a_quantized_model_comes_back_bit_for_bit(tmp_path):
    quantized().write(tmp_path)
    assert_equal(QuantizedModel.read(tmp_path), quantized())


def test_its_weights_are_float32_of_every_name():
    model = quantized()
    weights = model.weights()
    assert list(weights) == [*model.matrices, *model.rest]
    assert all(w.dtype == torch.float32 for w in weights.values())
    assert torch.equal(weights["a.w"], model.matrices["a.w"].dequantize())


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    weights = {"b.w": torch.randn(3, 4), "a/with/slashes": torch.tensor(float("inf")), "z": torch.zeros(0)}
    Checkpoint({"layers": 2}, 77, weights).write(tmp_path)
    again = Checkpoint.read(tmp_path)
    assert (again.model, again.vocab_size, list(again.weights)) == ({"layers": 2}, 77, list(weights))
    for name, w in weights.items():
        assert torch.equal(again.weights[name], w)


@pytest.mark.parametrize("file", [WEIGHTS, META])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "foreign"])
def test_a_damaged_checkpoint_is_a_store_error(tmp_path, file, damage):
    Checkpoint({"layers": 2}, 77, {"w": torch.randn(30, 4)}).write(tmp_path)
    spoil(tmp_path / file, damage)
    with pytest.raises(StoreError):
        Checkpoint.read(tmp_path)


@pytest.mark.parametrize("file", [CODES, LAYOUT, META])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "foreign"])
def test_a_damaged_quantized_model_is_a_store_error(tmp_path, file, damage):
    quantized().write(tmp_path)
    spoil(tmp_path / file, damage)
    with pytest.raises(StoreError):
        QuantizedModel.read(tmp_path)


def spoil(path, damage: str) -> None:
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"empty": b"", "cut": whole[: len(whole) // 2], "foreign": b"\x89PNG" + whole[4:]}[damage]
        )


def test_equal_arrays_make_equal_files(tmp_path):
    arrays = {"b": np.arange(5.0), "a/x": np.array([[1, 2]], dtype=np.int8).T}
    for name in ("one.npz", "two.npz"):
        write_arrays(tmp_path / name, arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    again = read_arrays(tmp_path / "one.npz")
    assert list(again) == ["b", "a/x"]
    assert again["a/x"].tolist() == [[1], [2]]


def test_an_array_that_would_need_pickle_is_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", a=np.array([object()]))
    with pytest.raises(StoreError, match="can be read"):
        read_arrays(tmp_path / "evil.npz")
