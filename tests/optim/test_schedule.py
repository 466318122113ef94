"""The learning-rate multiplier, by hand and in general."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.optim.schedule import Schedule

FRACTION = st.floats(0, 0.99)
FORMS = st.sampled_from([None, "one_minus_sqrt", "cosine"])


def test_worked_example():
    schedule = Schedule(warmup_fraction=0.1, warmdown_fraction=0.5, min_lr=0.1)
    values = {0.0: 0.0, 0.05: 0.5, 0.1: 1.0, 0.4: 1.0, 0.5: 1.0, 0.75: 0.5, 0.96: 0.1, 1.0: 0.1}
    assert [schedule.scale(f) for f in values] == pytest.approx(list(values.values()))


def test_the_newest_record_reaches_its_floor_at_0_915():
    schedule = Schedule(warmdown_fraction=0.85, min_lr=0.1)
    assert schedule.scale(0.914) > 0.1
    assert schedule.scale(0.9151) == schedule.scale(1.0) == 0.1


@pytest.mark.parametrize(("form", "values"), [
    (None, [1.0, 0.75, 0.5, 0.0]),
    ("one_minus_sqrt", [1.0, 0.5, 1 - 0.5**0.5, 0.0]),
    ("cosine", [1.0, (1 + 0.5**0.5) / 2, 0.5, 0.0]),
])  # fmt: skip
def test_forms_at_the_start_a_quarter_and_a_half_of_the_warmdown(form, values):
    schedule = Schedule(warmdown_fraction=0.4, warmdown_form=form)
    assert [schedule.scale(f) for f in (0.6, 0.7, 0.8, 1.0)] == pytest.approx(values, abs=1e-9)
    assert schedule.scale(0.5) == 1.0
    assert schedule.but(min_lr=0.3).scale(1.0) == 0.3


def test_without_warmup_or_warmdown_it_is_flat():
    flat = Schedule(warmup_fraction=0.0, warmdown_fraction=0.0)
    assert [flat.scale(f) for f in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


@settings(max_examples=100, deadline=None)
@given(warmup=FRACTION, warmdown=FRACTION, floor=st.floats(0, 1), f=st.floats(0, 1), form=FORMS)
def test_it_stays_between_zero_and_the_peak_and_falls_once_warm(warmup, warmdown, floor, f, form):
    schedule = Schedule(warmup_fraction=warmup, warmdown_fraction=warmdown, min_lr=floor, warmdown_form=form)
    assert 0 <= schedule.scale(f) <= 1
    if f >= warmup:
        assert schedule.scale(f) >= schedule.scale(1.0)
        assert schedule.scale(f) >= floor
        assert schedule.scale(f) >= schedule.scale(min(f + 0.01, 1.0))


@settings(max_examples=100, deadline=None)
@given(
    warmup=st.floats(0.05, 0.5), warmdown=st.floats(0.05, 1), floor=st.floats(0, 1), f=st.floats(0, 0.999), form=FORMS
)  # fmt: skip
def test_it_never_jumps(warmup, warmdown, floor, f, form):
    """Steepest: warmup at 1/0.05, cosine at pi/2/0.05, and 1 - sqrt where it sets in, by sqrt(df/0.05)."""
    schedule = Schedule(warmup_fraction=warmup, warmdown_fraction=warmdown, min_lr=floor, warmdown_form=form)
    bound = (1e-4 / 0.05) ** 0.5 if form == "one_minus_sqrt" else 1.6 * 1e-4 / 0.05
    assert abs(schedule.scale(f + 1e-4) - schedule.scale(f)) <= bound + 1e-4 / 0.05 + 1e-9
