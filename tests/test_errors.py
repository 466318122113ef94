"""The error tree: three lines for a user, outcomes as data, and both survive the way between processes."""

import pickle

import pytest

from pgolf.errors import (
    ConfigError,
    DataError,
    Infeasible,
    InfeasibleTrial,
    PgolfError,
    StoreError,
    UserError,
    nearest,
)


@pytest.mark.parametrize("kind", [ConfigError, DataError, StoreError])
def test_a_users_mistake_is_rule_value_way_out(kind):
    error = kind("shards have tokens", "a.bin", "fetch it")
    assert str(error).splitlines() == ["shards have tokens", "  given: a.bin", "  way out: fetch it"]
    assert isinstance(error, UserError)
    assert isinstance(error, PgolfError)


def test_long_and_broken_texts_stay_three_lines():
    assert len(str(UserError("a\nb", "x\n" * 900, "y\r\nz")).splitlines()) == 3


def test_zero_and_empty_are_values_and_none_is_no_value():
    assert "given: 0" in str(UserError("rule", 0))
    assert str(UserError("rule")) == "rule"


def test_an_outcome_on_its_way_is_no_mistake_of_the_user():
    assert not issubclass(InfeasibleTrial, UserError)


def test_an_outcome_survives_pickling_between_ranks():
    outcome = Infeasible(reason="gate", measured=2.0, limit=1.5)
    assert pickle.loads(pickle.dumps(InfeasibleTrial(outcome))).outcome == outcome


@pytest.mark.parametrize(
    ("measured", "limit", "violation"),
    [(150, 100, 0.5), (100.001, 100, 1e-5), (None, 60, 1.0), (2, 0, 2e12), (5, 5, 1e-9), (-3, -2, 0.5)],
)
def test_the_violation_is_how_far_over_relative_to_the_limit(measured, limit, violation):
    got = Infeasible(reason="artifact_bytes", measured=measured, limit=limit).violation
    assert got == pytest.approx(violation, rel=1e-6)
    assert got > 0


def test_an_outcome_is_plain_json_and_a_missing_measurement_stays_missing():
    diverged = Infeasible(reason="diverged", measured=None, limit=0)
    assert Infeasible.model_validate(diverged.plain() | {"measured": None}) == diverged


def test_the_nearest_name_comes_first_and_long_lists_are_cut():
    assert nearest("lairs", ["width", "layers"]) == "did you mean 'layers'? known: layers, width"
    assert nearest("zzz", ["layers"]) == "known: layers"
    assert nearest("a", [f"n{i:02}" for i in range(40)]).endswith("n11, ...")
