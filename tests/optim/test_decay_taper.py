"""The taper of the decay, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.optim.decay_taper import DecayTaper
from pgolf.optim.muon import Muon


def test_worked_example():
    """PR 1729: 1 until 0.7, then to a half."""
    taper = DecayTaper(start_fraction=0.7, end=0.5)
    assert [taper.multiplier(f) for f in (0.0, 0.7, 0.85, 1.0)] == pytest.approx([1.0, 1.0, 0.75, 0.5])
    muon = Muon(weight_decay=0.2, decay_taper=taper)
    assert [muon.decay_at(f) for f in (0.5, 0.85, 1.0)] == pytest.approx([0.2, 0.15, 0.1])
    assert Muon(weight_decay=0.2).decay_at(1.0) == 0.2


@given(start=st.floats(0, 0.95), end=st.floats(0, 2), f=st.floats(0, 0.999))
def test_it_never_jumps(start, end, f):
    taper = DecayTaper(start_fraction=start, end=end)
    assert abs(taper.multiplier(f + 1e-4) - taper.multiplier(f)) <= 1e-4 / 0.05 + 1e-9
    assert min(1.0, end) - 1e-9 <= taper.multiplier(f) <= max(1.0, end) + 1e-9
