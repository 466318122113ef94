"""Budgets: what fraction of the run is over."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.train.budget import Seconds, Steps


def test_worked_examples():
    assert [Steps(steps=4).progress(i, 1e9) for i in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    budget = Seconds(seconds=10.0, reserve_seconds=2.0)
    assert [budget.progress(10**9, s) for s in (0.0, 4.0, 8.0, 9.0)] == [0.0, 0.5, 1.0, 1.0]


@settings(max_examples=50, deadline=None)
@given(budget=st.one_of(st.builds(Steps, steps=st.integers(1, 99)), st.builds(Seconds, seconds=st.floats(1, 99))),
       step=st.integers(0, 99), seconds=st.floats(0, 99))  # fmt: skip
def test_progress_never_falls_and_ends_at_one(budget, step, seconds):
    now, later = budget.progress(step, seconds), budget.progress(step + 1, seconds + 0.5)
    assert 0 <= now <= later <= 1


@pytest.mark.parametrize("data", [{"steps": 0}, {"steps": -3}])
def test_no_steps_is_refused(data):
    with pytest.raises(ValidationError):
        Steps(**data)


def test_a_reserve_that_leaves_nothing_is_refused():
    with pytest.raises(ValidationError, match="less than seconds"):
        Seconds(seconds=0.5)
    with pytest.raises(ValidationError):
        Seconds(seconds=0.0)
