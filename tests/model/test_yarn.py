"""YaRN: the paper's numbers and the ternary record's, rotations written as complex numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.model.rope import Rope
from pgolf.model.yarn import Yarn
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import small


class TestYarn(TechniqueContract):
    def build(self):
        return Rope(dims=4, base=100.0, scaling=Yarn()).build()

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 2, 8)).flatten(2)


class TestYarnInNetwork(InNetworkContract):
    """Two dimensions turn so fast that nothing is stretched: what changes is the sharpness alone."""

    def on(self):
        return small(rope=Rope(dims=4, base=10.0, scaling=Yarn()))

    def off(self):
        return small(rope=Rope(dims=4, base=10.0))


class TestIndexInNetwork(InNetworkContract):
    def on(self):
        return small(rope=Rope(dims=4, base=10.0, scaling=Yarn(ramp="index")))

    def off(self):
        return small(rope=Rope(dims=4, base=10.0))


def test_worked_example_of_the_wavelength_ramp():
    """Train length 200 pi, base 100, four dims: 100 and 10 turns; twice as long. 10 turns keep 9/31."""
    yarn = Yarn(train_length=628, used_length=1256)
    fast, slow = yarn.stretch(4, 100.0)
    turns = 628 * 0.1 / (2 * math.pi)
    assert fast == 1.0, "a hundred turns are more than 32"
    keep = (turns - 1) / 31
    assert turns == pytest.approx(10, abs=0.01)
    assert slow == pytest.approx(keep + (1 - keep) / 2)
    assert yarn.magnitude == pytest.approx(1 + 0.1 * math.log(2))


def test_what_never_turns_is_stretched_whole():
    assert Yarn(train_length=16, used_length=64).stretch(8, 1e6)[-1] == 0.25


def test_worked_example_of_the_index_ramp():
    """Eight dims, twice as long: ramp 0, 0, 1/3, 2/3 of pairs at 0, 1/4, 1/2, 3/4."""
    yarn = Yarn(train_length=1024, used_length=2048, ramp="index")
    assert yarn.stretch(8, 5000.0) == pytest.approx((1, 1, 3 / 4, 3 / 5))
    assert yarn.magnitude == 1


@settings(max_examples=25, deadline=None)
@given(
    half=st.integers(1, 4), ratio=st.integers(2, 8), ramp=st.sampled_from(["wavelength", "index"]),
    seed=st.integers(0, 2**31 - 1),
)  # fmt: skip
def test_rotations_are_those_of_complex_numbers(half, ratio, ramp, seed):
    """exp(-i t w) on x1 + i x2: what the two real formulas say, in float64."""
    yarn, base, dims = Yarn(train_length=32, used_length=32 * ratio, ramp=ramp), 50.0, 2 * half
    x = torch.randn(1, 9, 1, dims + 1, generator=torch.Generator().manual_seed(seed))
    got = Rope(dims=dims, base=base, scaling=yarn).build()(x)[0, :, 0].numpy()
    given_ = x[0, :, 0].double().numpy()
    for t in range(9):
        for i in range(half):
            w = base ** (-2 * i / dims)
            if ramp == "wavelength":
                keep = min(max((32 * w / (2 * np.pi) - 1) / 31, 0), 1)
                w = (1 - keep) * w / ratio + keep * w
            else:
                w = w / (min(max((2 * i / dims - 0.25) / 0.75, 0), 1) * (ratio - 1) + 1)
            sharp = 0.1 * np.log(ratio) + 1 if ramp == "wavelength" else 1.0
            z = sharp * (given_[t, i] + 1j * given_[t, i + half]) * np.exp(-1j * t * w)
            assert got[t, i] == pytest.approx(z.real, abs=1e-5)
            assert got[t, i + half] == pytest.approx(z.imag, abs=1e-5)
        assert got[t, -1] == pytest.approx(sharp * given_[t, -1], abs=1e-5)


def test_windows_that_are_no_longer_are_refused():
    with pytest.raises(ValidationError, match="used_length above train_length"):
        Yarn(train_length=2048, used_length=2048)
