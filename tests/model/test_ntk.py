"""NTK scaling: the published effective bases, and lengths that make no sense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.model.ntk import Ntk
from pgolf.model.rope import Rope
from tests.conformance.in_network import InNetworkContract
from tests.conformance.technique import TechniqueContract
from tests.nets import small


class TestNtk(TechniqueContract):
    def build(self):
        return Rope(dims=4, base=100.0, scaling=Ntk()).build()

    def apply(self, module, x, starts):
        return module(x.view(1, -1, 2, 8)).flatten(2)


class TestNtkInNetwork(InNetworkContract):
    def on(self):
        return small(rope=Rope(dims=4, base=10.0, scaling=Ntk()))

    def off(self):
        return small(rope=Rope(dims=4, base=10.0))


@pytest.mark.parametrize(("dims", "base"), [(64, 20_452), (16, 22_082)])
def test_the_bases_that_runs_with_the_forgotten_default_had(dims, base):
    """Trained at windows of 2,048 with a train length of 1,024."""
    module = Rope(dims=dims, scaling=Ntk(train_length=1024, used_length=2048)).build()
    assert module.base == pytest.approx(base, abs=1)
    assert module.stretch == () and module.magnitude == 1


@given(dims=st.integers(2, 32).map(lambda n: 2 * n), ratio=st.integers(2, 16))
def test_the_fastest_rotation_stays_and_the_slowest_is_slowed_down_by_the_ratio(dims, ratio):
    """base'^(-(dims - 2) / dims) is base^(...) / ratio: that is what the exponent is for."""
    scaled = Ntk(train_length=100, used_length=100 * ratio).scaled_base(dims, 10_000.0)
    slowest = -(dims - 2) / dims
    assert scaled**slowest == pytest.approx(10_000.0**slowest / ratio)


@pytest.mark.parametrize("lengths", [(2048, 2048), (2048, 1024)])
def test_windows_that_are_no_longer_are_refused(lengths):
    with pytest.raises(ValidationError, match="used_length above train_length"):
        Ntk(train_length=lengths[0], used_length=lengths[1])


def test_two_dimensions_have_no_exponent():
    with pytest.raises(ValidationError, match="dims / \\(dims - 2\\)"):
        Rope(dims=2, scaling=Ntk())
