"""Config sections: values that are parsed once, refuse what they do not know, and hash one way only."""

import json
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from pgolf.section import Refusal, RuleBroken, Section, assign, canonical, digest_of, parse

NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Smear(Section):
    window: int = Field(12, ge=1)


class Plain(Section):
    kind: Literal["plain"] = "plain"
    rate: float = Field(0.5, gt=0)


class Fancy(Section):
    kind: Literal["fancy"] = "fancy"
    smear: Smear = Smear()
    heads: int = 4
    width: int = 64

    @model_validator(mode="after")
    def _fit(self) -> "Fancy":
        if self.width % self.heads:
            raise RuleBroken("heads divide the width", f"{self.width} / {self.heads}", "width=64")
        return self


class Top(Section):
    choice: Annotated[Plain | Fancy, Field(discriminator="kind")] = Plain()
    smear: Smear | None = None
    ema: Smear | None = Smear()  # on by default, may be switched off
    name: str
    note: str | None = None


def refusal(data: object) -> Refusal:
    got = parse(Top, data)
    assert isinstance(got, Refusal)
    assert len(got.lines()) <= 3
    return got


def test_a_section_is_frozen_comparable_and_closed():
    section = Smear(window=3)
    assert section == Smear(window=3) != Smear(window=4)
    with pytest.raises(ValidationError, match="frozen"):
        section.window = 4
    with pytest.raises(ValidationError, match="Extra inputs"):
        Smear(windows=3)


def test_but_changes_one_field_and_checks_it_again():
    assert Top(name="x").but(name="y") == Top(name="y")
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Smear().but(window=0)
    with pytest.raises(ValidationError, match="valid integer"):
        Smear().but(window="banana")
    with pytest.raises(ValidationError, match="Extra inputs"):
        Smear().but(windw=3)


def test_but_runs_the_rules_that_join_fields():
    with pytest.raises(ValidationError, match="heads divide"):
        Fancy().but(heads=5)


@pytest.mark.parametrize(
    "section",
    [
        Top(name="a"),
        Top(name="a", choice=Fancy(smear=Smear(window=2)), smear=Smear(), note="n"),
        Top(name="a", ema=None),
    ],
)
def test_plain_values_parse_back_to_an_equal_section(section):
    assert parse(Top, json.loads(json.dumps(section.plain()))) == section


def test_off_leaves_no_trace_unless_on_is_the_default():
    assert Top(name="a").plain().keys() == {"choice", "ema", "name"}
    assert Top(name="a", ema=None).plain()["ema"] is None


@given(value=PLAIN)
def test_canonical_text_says_the_value_and_only_it(value):
    assert json.loads(canonical(value)) == value
    assert canonical(json.loads(canonical(value))) == canonical(value)


@given(entries=st.dictionaries(NAMES, st.integers(), max_size=6))
def test_the_order_of_keys_does_not_matter(entries):
    backwards = dict(reversed(entries.items()))
    assert digest_of(entries) == digest_of(backwards)


@pytest.mark.parametrize(
    ("a", "b"), [(1, 1.0), (1, True), (0, False), ([1], {"0": 1}), ("", None), ("1", 1), ([[]], [])]
)
def test_values_of_another_type_have_another_digest(a, b):
    assert digest_of(a) != digest_of(b)


class Sub(str):
    """Looks like a str; its repr and hash could be anything."""


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, {"a": (1, 2)}, float("nan"), float("-inf"), {"x": {1, 2}}, b"bytes", Smear(), [lambda: 0],
     1j, Sub("a"), {"deep": [{"er": print}]}],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_what_json_cannot_say_exactly_has_no_identity(value):
    with pytest.raises(TypeError, match="value"):
        digest_of(value)


def test_the_refusal_names_the_place_of_what_cannot_be_hashed():
    with pytest.raises(TypeError, match=r"value\.a\[1\]\.b"):
        canonical({"a": [0, {"b": object()}]})


@pytest.mark.parametrize(
    ("data", "where", "close"),
    [
        ({"name": "x", "smaer": {}}, "smaer", "smear"),
        ({"name": "x", "smear": {"windov": 3}}, "smear.windov", "window"),
        ({"name": "x", "choice": {"kind": "plain", "rte": 1}}, "choice.rte", "rate"),
        ({"name": "x", "choice": {"kind": "fancy", "hads": 1}}, "choice.hads", "heads"),
        ({"name": "x", "choice": {"kind": "fancy", "smear": {"windw": 1}}}, "choice.smear.windw", "window"),
        ({"naem": "x"}, "naem", "name"),
    ],
)
def test_an_unknown_key_names_its_place_and_the_nearest_valid_one(data, where, close):
    got = refusal(data)
    assert got.rule == f"{where} is not a setting"
    assert f"did you mean '{close}'?" in got.remedy


def test_an_unknown_key_like_no_other_lists_what_there_is():
    got = refusal({"name": "x", "choice": {"kind": "plain", "zzzzzz": 1}})
    assert got.remedy == "known: kind, rate"


def test_a_missing_key_an_unknown_kind_and_a_missing_kind_say_so():
    assert refusal({}).rule == "name must be given"
    unknown = refusal({"name": "x", "choice": {"kind": "plane"}})
    assert (unknown.rule, unknown.given) == ("choice: no such kind", "'plane'")
    assert "'plain', 'fancy'" in unknown.remedy
    assert refusal({"name": "x", "choice": {"rate": 1}}).rule == "choice: say which kind"


def test_a_broken_rule_of_a_section_arrives_whole():
    got = refusal({"name": "x", "choice": {"kind": "fancy", "heads": 5}})
    assert (got.rule, got.given, got.remedy) == ("choice: heads divide the width", "64 / 5", "width=64")


def test_a_wrong_type_says_type_limits_and_default():
    got = refusal({"name": "x", "smear": {"window": "wide"}})
    assert got.rule.startswith("smear.window: ")
    assert got.given == "wide"
    assert got.remedy == "a value of type int with Ge(ge=1); the default is 12"


@pytest.mark.parametrize("data", [None, 3, "text", ["a"], [("name", "x")]])
def test_a_config_that_is_no_mapping_is_refused(data):
    assert "mapping" in refusal(data).rule


@given(rule=st.text(min_size=1), given_=st.text(), remedy=st.text())
def test_a_refusal_is_three_short_lines_whatever_it_holds(rule, given_, remedy):
    lines = Refusal(rule * 400, given_ * 400, remedy * 400).lines()
    assert len(lines) == 3
    assert not any("\n" in line or "\r" in line for line in lines)
    assert max(map(len, lines)) <= 420


# ------------------------------------------------------------------------------------------ assign


def test_set_reaches_down_and_leaves_the_rest_and_the_original_alone():
    data = {"a": {"b": 1, "c": 2}, "d": 3}
    assert assign(data, "a.b=5") == {"a": {"b": 5, "c": 2}, "d": 3}
    assert data == {"a": {"b": 1, "c": 2}, "d": 3}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1.5", 1.5), ("true", True), ("null", None), ("word", "word"), ("[1, 2]", [1, 2]), ("a=b", "a=b"),
     ("{k: v}", {"k": "v"}), ("", None), ("'1'", "1")],
)  # fmt: skip
def test_the_value_of_set_is_yaml(text, value):
    assert assign({}, f"x.y={text}") == {"x": {"y": value}}


def test_set_makes_the_sections_on_its_way():
    assert assign({"smear": None}, "smear.window=3") == {"smear": {"window": 3}}


@pytest.mark.parametrize("assignment", ["x", "=1", ".x=1", "x.=1", "a..b=1", ""])
def test_set_without_a_path_or_a_sign_is_refused(assignment):
    with pytest.raises(RuleBroken, match="--set takes path=value"):
        assign({}, assignment)


def test_set_below_a_plain_value_is_refused():
    with pytest.raises(RuleBroken, match="lies under a plain value"):
        assign({"a": 3}, "a.b=1")
