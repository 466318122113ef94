"""The learning-rate multiplier, by hand and in general."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.optim.schedule import Schedule

FRACTION = st.floats(0, 0.99)


def test_worked_example():
    schedule = Schedule(warmup_fraction=0.1, warmdown_fraction=0.5, min_lr=0.1)
    values = {0.0: 0.0, 0.05: 0.5, 0.1: 1.0, 0.4: 1.0, 0.5: 1.0, 0.75: 0.5, 0.96: 0.1, 1.0: 0.1}
    assert [schedule.scale(f) for f in values] == pytest.approx(list(values.values()))


def test_without_warmup_or_warmdown_it_is_flat():
    flat = Schedule(warmup_fraction=0.0, warmdown_fraction=0.0)
    assert [flat.scale(f) for f in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


@settings(max_examples=100, deadline=None)
@given(warmup=FRACTION, warmdown=FRACTION, floor=st.floats(0, 1), f=st.floats(0, 1))
def test_it_stays_between_zero_and_the_peak_and_falls_once_warm(warmup, warmdown, floor, f):
    schedule = Schedule(warmup_fraction=warmup, warmdown_fraction=warmdown, min_lr=floor)
    assert 0 <= schedule.scale(f) <= 1
    if f >= warmup:
        assert schedule.scale(f) >= schedule.scale(1.0)
        assert schedule.scale(f) >= floor
        assert schedule.scale(f) >= schedule.scale(min(f + 0.01, 1.0))


@settings(max_examples=100, deadline=None)
@given(warmup=st.floats(0.05, 0.5), warmdown=st.floats(0.05, 1), floor=st.floats(0, 1), f=st.floats(0, 0.999))
def test_it_never_jumps(warmup, warmdown, floor, f):
    schedule = Schedule(warmup_fraction=warmup, warmdown_fraction=warmdown, min_lr=floor)
    assert abs(schedule.scale(f + 1e-4) - schedule.scale(f)) <= 1e-4 / 0.05 + 1e-9
