"""The rules of play: budgets that are broken from one byte over, and the competition's own numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pgolf.rules import LAPTOP, PARAMETER_GOLF, Gang, Rules

RULES = Rules(name="r", artifact_bytes=1000, train_seconds=10, eval_seconds=5)


def reasons(**measured: float | None) -> list[str]:
    everything = {"artifact_bytes": None, "train_seconds": None, "eval_seconds": None} | measured
    return [i.reason for i in RULES.broken_by(**everything)]


def test_a_budget_holds_at_its_cap_and_breaks_beyond_it():
    assert reasons(artifact_bytes=1000, train_seconds=10, eval_seconds=5) == []
    assert reasons(artifact_bytes=1001) == ["artifact_bytes"]
    assert reasons(train_seconds=10.001) == ["train_seconds"]
    assert reasons(eval_seconds=5.001) == ["eval_seconds"]


def test_a_missing_measurement_breaks_nothing():
    assert reasons() == []


@given(b=st.integers(0, 3000), t=st.floats(0, 30), e=st.floats(0, 30))
def test_every_broken_budget_is_named_with_its_measurement(b, t, e):
    broken = {i.reason: i for i in RULES.broken_by(artifact_bytes=b, train_seconds=t, eval_seconds=e)}
    for name, value, cap in (("artifact_bytes", b, 1000), ("train_seconds", t, 10), ("eval_seconds", e, 5)):
        assert (name in broken) == (value > cap)
        if name in broken:
            assert (broken[name].measured, broken[name].limit) == (value, cap)


def test_the_competitions_own_rules():
    assert PARAMETER_GOLF.artifact_bytes == 16_000_000
    assert (PARAMETER_GOLF.train_seconds, PARAMETER_GOLF.eval_seconds) == (600, 600)
    assert (PARAMETER_GOLF.gang.ranks, PARAMETER_GOLF.gang.gpus_per_rank) == (8, 1)


def test_the_laptop_needs_no_gpu_and_one_thread_so_that_bytes_repeat():
    assert (LAPTOP.gang.ranks, LAPTOP.gang.gpus_per_rank, LAPTOP.gang.device, LAPTOP.gang.threads) == (
        1,
        0,
        "cpu",
        1,
    )


@pytest.mark.parametrize(
    "change", [{"ranks": 0}, {"gpus_per_rank": 2}, {"cpus_per_rank": 0}, {"threads": 0}, {"device": "tpu"}]
)
def test_an_impossible_gang_is_refused(change):
    with pytest.raises(ValidationError):
        Gang(**change)


@pytest.mark.parametrize(
    "change", [{"train_seconds": 0}, {"eval_seconds": -1}, {"artifact_bytes": -1}, {"usd_per_hour": -1}]
)
def test_an_impossible_budget_is_refused(change):
    with pytest.raises(ValidationError):
        RULES.but(**change)
