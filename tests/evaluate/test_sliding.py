"""The window plan by brute force: what is scored, and what each target can see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.evaluate.sliding import Sliding
from tests.evaluate.contract import ModeContract


class TestSliding(ModeContract):
    modes = (Sliding(context=3, stride=3), Sliding(context=6, stride=2))

    def seen_from(self, mode, target, starts, tokens):
        if target <= mode.context:
            return 0
        number = (target - 1 - mode.context) // mode.stride + 1
        end = min(mode.context + 1 + number * mode.stride, tokens)
        return max(end - 1 - mode.context, 0)


PLANS = st.integers(2, 20).flatmap(lambda c: st.builds(Sliding, context=st.just(c), stride=st.integers(1, c)))


def test_worked_example():
    """Ten tokens, windows of four inputs that advance by two: targets 1-4, 5-6, 7-8, 9."""
    assert Sliding(context=4, stride=2).plan(10).tolist() == [[0, 1, 5], [2, 5, 7], [4, 7, 9], [5, 9, 10]]


def test_disjoint_blocks():
    assert Sliding(context=4, stride=4).plan(9).tolist() == [[0, 1, 5], [4, 5, 9]]


@settings(max_examples=150, deadline=None)
@given(plan=PLANS, tokens=st.integers(0, 90))
def test_every_target_is_scored_once_from_the_past_it_was_promised(plan, tokens):
    times, seen = np.zeros(tokens, dtype=int), {}
    for context, begin, end in plan.plan(tokens).tolist():
        assert end - 1 - context <= plan.context, "no window is longer than the context"
        for target in range(begin, end):
            times[target] += 1
            seen[target] = target - context
    assert times.tolist() == [0, *[1] * (tokens - 1)][:tokens]
    for target, past in seen.items():
        assert past >= min(target, plan.context - plan.stride + 1), "context is not thrown away"
        assert past >= 1


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, tokens=st.integers(2, 90))
def test_windows_have_one_length_so_that_they_batch(plan, tokens):
    lengths = {end - 1 - context for context, _, end in plan.plan(tokens).tolist()}
    assert lengths == {min(plan.context, tokens - 1)}


def test_a_stride_that_would_skip_targets_is_refused():
    with pytest.raises(ValidationError, match="targets would be skipped"):
        Sliding(context=8, stride=9)
