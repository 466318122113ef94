"""Tests of means against scipy.stats, a worked example, and the cases where there is no test."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.significance import against_leader, welch

SEEDS = st.lists(st.floats(0.9, 3.0), min_size=2, max_size=7).filter(lambda v: max(v) - min(v) > 1e-3)


@given(a=SEEDS, b=SEEDS)
def test_welch_is_scipys(a, b):
    ours = welch(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False, alternative="less")
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    assert ours.df == pytest.approx(theirs.df)


def test_worked_example():
    """Means 2 and 4, sample variances 1 and 4, three seeds each: t = -2 / sqrt(1/3 + 4/3)."""
    verdict = welch([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert verdict.t == pytest.approx(-2 / math.sqrt(5 / 3))
    assert verdict.df == pytest.approx((5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2))
    assert verdict.p == pytest.approx(0.1102, abs=5e-4)


@pytest.mark.parametrize("verdict", [welch([1.0], [1.0, 2.0]), welch([1.0, 2.0], [])])
def test_below_two_seeds_there_is_no_p_and_a_reason(verdict):
    assert verdict.p is None
    assert "seed" in verdict.note


def test_without_spread_there_is_no_p_and_a_reason():
    verdict = welch([1.0, 1.0], [2.0, 2.0])
    assert verdict.p is None
    assert "no spread" in verdict.note


def test_the_leader_is_compared_with_every_other_group_but_itself():
    groups = {"a": {0: 1.0, 1: 1.01}, "b": {0: 1.1, 1: 1.12}, "c": {0: 1.3}}
    verdicts = against_leader(groups, "a")
    assert verdicts["a"].p is None
    assert verdicts["a"].note == "leader, 2 seeds"
    assert verdicts["b"].p == pytest.approx(welch([1.0, 1.01], [1.1, 1.12]).p)
    assert verdicts["c"].p is None
    assert verdicts["c"].note.startswith("1 seed:")
