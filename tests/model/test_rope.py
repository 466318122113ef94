"""RoPE: rotations by hand, and what makes them positions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.data.packed import Packed
from pgolf.model.ntk import Ntk
from pgolf.model.rope import Rope
from pgolf.model.yarn import Yarn
from pgolf.recipes import tiny
from tests.conformance.technique import TechniqueContract

SEEDS = st.integers(0, 2**31 - 1)


def heads(seed: int, time: int, dim: int) -> torch.Tensor:
    return torch.randn(2, time, 3, dim, generator=torch.Generator().manual_seed(seed))


class TestRope(TechniqueContract):
    def build(self):
        return Rope(dims=4).build()

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 2, 8)).flatten(2)


def test_worked_example():
    """Base 100 with 4 dims turns the pairs by t and by t / 10; pair i is (i, i + 2)."""
    x = torch.zeros(1, 4, 1, 4)
    x[..., 0], x[..., 3] = 1.0, 1.0  # (x1, x2) = ((1, 0), (0, 1))
    got = Rope(dims=4, base=100.0).build()(x)[0, 3, 0]
    assert got.tolist() == pytest.approx([math.cos(3), math.sin(0.3), -math.sin(3), math.cos(0.3)], abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, half=st.integers(1, 4), rest=st.integers(0, 3), base=st.sampled_from([10.0, 1e4]))
def test_rotation_keeps_lengths_and_leaves_the_other_dimensions(seed, half, rest, base):
    x = heads(seed, 9, 2 * half + rest)
    got = Rope(dims=2 * half, base=base).build()(x)
    assert torch.allclose(got.norm(dim=3), x.norm(dim=3), rtol=1e-5)
    assert torch.equal(got[..., 2 * half :], x[..., 2 * half :])
    assert torch.equal(got[:, 0], x[:, 0])  # position 0 is not turned


@pytest.mark.parametrize("scaling", [None, Ntk(), Yarn()])
def test_a_later_part_of_a_row_is_turned_as_in_the_row(scaling):
    x, rope = heads(0, 9, 8), Rope(dims=4, scaling=scaling).build()
    assert torch.equal(rope(x[:, 4:], 4), rope(x)[:, 4:])


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, shift=st.integers(1, 20), half=st.integers(1, 4))
def test_dot_products_depend_on_the_distance_alone(seed, shift, half):
    q, k = torch.randn(2, 2 * half, generator=torch.Generator().manual_seed(seed)).unbind()
    rope = Rope(dims=2 * half, base=50.0).build()
    everywhere = [rope(v.expand(1, 40, 1, 2 * half))[0, :, 0] for v in (q, k)]
    for distance in (0, 1, 7):
        dots = [float(everywhere[0][t + distance] @ everywhere[1][t]) for t in (0, shift)]
        assert dots[0] == pytest.approx(dots[1], abs=1e-4)


def test_positions_make_a_difference():
    x = torch.ones(1, 2, 1, 8)
    got = Rope(dims=8).build()(x)
    assert not torch.allclose(got[0, 0, 0], got[0, 1, 0])


def test_an_odd_number_of_dimensions_is_refused():
    with pytest.raises(ValidationError, match="pairs"):
        Rope(dims=7)


@pytest.mark.parametrize("scaling", [Ntk(), Yarn()])
def test_scaled_frequencies_are_refused_where_rows_are_packed(scaling):
    base = tiny()
    packed = base.but(train=base.train.but(loader=Packed(tokens_per_row=1024)))
    scaled = base.model.but(rope=base.model.rope.but(scaling=scaling))
    assert base.but(model=scaled).model.rope.scaling == scaling
    with pytest.raises(ValidationError, match="leave RoPE's frequencies alone"):
        packed.but(model=scaled)
