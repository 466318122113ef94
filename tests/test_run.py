"""A trial on one screen: read, written, changed and hashed so that equal configs are one candidate.

`golden/identities.json` holds what every stage of recipe `tiny` hashes. A changed line there is a
changed meaning, to be seen in review: stores that exist will do that work again. Inputs are named by the
stage that made them, since their digests depend on the machine's Python and arithmetic.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pgolf.errors import ConfigError
from pgolf.model.embedding import Embedding
from pgolf.recipes import RECIPES, laptop_baseline, tiny
from pgolf.run import RunConfig, parse_config, read_config, to_yaml, with_settings
from pgolf.section import Section
from pgolf.stage import RECORD

GOLDEN = Path(__file__).parent / "golden" / "identities.json"
SHARDS = {"kind": "shards", "train": "t.bin", "validation": "v.bin", "tokenizer": "t.model"}
OTHER_KINDS = {
    "quantize": {"kind": "rtn", "grids": {"mlp": {"bits": 4}}},
    "pack": {"kind": "lzma"},
    "data": SHARDS | {"select": {"select_tokens": 10}},
    "train": {"budget": {"kind": "seconds", "seconds": 5.0}},
}


def other() -> dict[str, Any]:
    """A plain config made of the other arm of every union."""
    return RunConfig.model_validate(OTHER_KINDS).plain()


def nodes(data: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every mapping of a plain config, with its path."""
    yield at, data
    for key, value in data.items():
        if isinstance(value, dict):
            yield from nodes(value, (*at, key))


def changed(data: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    head, *rest = path
    return {**data, head: changed(data[head], tuple(rest), value) if rest else value}


# ----------------------------------------------------------------------------------- in and out of YAML


@pytest.mark.parametrize("name", RECIPES)
def test_a_config_comes_back_from_yaml_equal(tmp_path, name):
    config = RECIPES[name]()
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    again = parse_config(read_config(file))
    assert again == config
    assert again.digest == config.digest


@pytest.mark.parametrize(
    "data", [other(), tiny().but(calibrate=None, quantize=OTHER_KINDS["quantize"]).plain()]
)
def test_other_kinds_and_what_is_switched_off_come_back_too(tmp_path, data):
    config = parse_config(data)
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    assert parse_config(read_config(file)) == config
    assert parse_config(json.loads(json.dumps(config.plain()))) == config


def test_json_is_read_as_well(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(tiny().plain()))
    assert parse_config(read_config(tmp_path / "c.json")) == tiny()


def test_a_short_file_says_only_what_differs_from_the_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 7\nmodel: {layers: 2}\n")
    config = parse_config(read_config(tmp_path / "c.yaml"))
    assert (config.seed, config.model.layers, config.model.width) == (7, 2, RunConfig().model.width)


# ------------------------------------------------------------------------------------------------ --set


def test_set_changes_what_it_names_and_nothing_else():
    config = with_settings(tiny(), ["model.layers=3", "optim.muon.lr=0.07", "name=mine"])
    assert (config.model.layers, config.optim.muon.lr, config.name) == (3, 0.07, "mine")
    back = with_settings(config, ["model.layers=2", f"optim.muon.lr={tiny().optim.muon.lr}", "name=tiny"])
    assert back == tiny()


def test_set_switches_off_and_chooses_another_kind():
    config = with_settings(tiny(), ["optim.ema=null", "quantize={kind: rtn}", "calibrate=null"])
    assert config.optim.ema is None
    assert config.quantize.kind == "rtn"
    assert with_settings(config, ["quantize={kind: gptq}", "calibrate={}"]).quantize.kind == "gptq"


def test_the_last_setting_of_a_path_wins():
    assert with_settings(tiny(), ["seed=1", "seed=2"]).seed == 2


def test_a_setting_that_breaks_a_rule_is_refused_with_rule_value_and_way_out():
    with pytest.raises(ConfigError, match=r"evenly(.|\n)*5 ranks(.|\n)*train\.batch_tokens="):
        with_settings(tiny(), ["rules.gang.ranks=5"])


# ----------------------------------------------------------------------------------------- unknown keys


@pytest.mark.parametrize(
    "data", [tiny().plain(), laptop_baseline().plain(), other()], ids=["tiny", "baseline", "other"]
)
def test_an_unknown_key_names_the_nearest_valid_one_at_every_depth(data):
    tried = 0
    for path, node in nodes(data):
        key = max((k for k in node if k != "kind"), key=len, default=None)
        if key is None:
            continue
        misspelt = key[:-1] + "qx"
        with pytest.raises(ConfigError) as refused:
            parse_config(changed(data, (*path, misspelt), 1))
        assert refused.value.rule == f"{'.'.join((*path, misspelt))} is not a setting"
        assert f"did you mean '{key}'?" in refused.value.remedy
        tried += 1
    assert tried > 15


# --------------------------------------------------------------------------------------------- identity


PATHS = ("train", "validation", "tokenizer")  # of shards: where they lie


def decides_nothing(at: tuple[str, ...], data: dict[str, Any]) -> bool:
    """Labels, the seed, where files lie, and what the run is scheduled on and costs."""
    where = data["data"]["kind"] == "shards" and at in {("data", path) for path in PATHS}
    return (
        where
        or at in {("name",), ("seed",), ("rules", "name"), ("rules", "usd_per_hour")}
        or at[1:2] == ("gang",)
    )


def test_the_label_and_the_seed_are_not_part_of_the_digest():
    assert tiny().but(name="another", seed=9).digest == tiny().digest
    assert tiny().label == f"tiny-{tiny().digest[:8]}"


@pytest.mark.parametrize("data", [tiny().plain(), other()], ids=["tiny", "other"])
def test_the_digest_changes_with_whatever_decides_the_result_and_with_nothing_else(data):
    first = parse_config(data).digest
    seen, tried = {first}, 0
    for path, node in nodes(data):
        for key, value in node.items():
            at = (*path, key)
            if isinstance(value, dict):
                continue
            for new in (v for v in variants(value) if v != value):
                try:
                    digest = parse_config(changed(data, at, new)).digest
                except ConfigError:
                    continue  # no config at all, so no digest either
                if decides_nothing(at, data):
                    assert digest == first, ".".join(at)
                    break
                assert digest not in seen, ".".join(at)
                seen.add(digest)
                tried += 1
                break
    assert tried > 30


def variants(value: object) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2, value + 1, value - 1]
    if isinstance(value, float):
        return [value * 0.9, value * 1.1, value + 0.25]
    return [f"{value}x"]


def test_a_technique_of_a_later_release_that_is_off_changes_no_digest():
    class LaterModel(type(tiny().model)):  # type: ignore[misc]
        smear: Embedding | None = None

    class LaterConfig(RunConfig):
        model: LaterModel = LaterModel()
        adapt: Section | None = None

    later = LaterConfig.model_validate(tiny().plain())
    assert later.digest == tiny().digest
    assert later.but(model=later.model.but(smear=Embedding())).digest != tiny().digest


CLOCKS = ("train_seconds", "eval_seconds_strict")


def test_the_stage_identities_of_tiny_are_the_golden_ones(tiny_trial, tmp_path):
    made = {}
    for name, stage in tiny_trial.validated.stages.items():
        made[name] = json.loads((tiny_trial.stage(name) / RECORD).read_text())
        assert made[name]["identity"]["stage"] == tiny_trial.stage(name).parent.name, stage
    by_digest = {record["digest"]: name for name, record in made.items()}
    given = {"corpus": "documents", "bundle": "sources"}
    got: dict[str, Any] = {"config_digest": tiny_trial.config.digest}
    for name, record in made.items():
        inputs = [
            by_digest.get(digest, given.get(name, "unknown")) for digest in record["identity"]["inputs"]
        ]
        got[name] = {**record["identity"], "inputs": inputs}
    history = got["certify"]["sections"]["history"]
    assert {history[clock] is not None for clock in CLOCKS} == {True}
    history.update(dict.fromkeys(CLOCKS))  # measured, and other every time
    text = json.dumps(got, indent=1, sort_keys=True) + "\n"
    new = tmp_path / "identities.json"
    new.write_text(text)
    known = GOLDEN.read_text() if GOLDEN.exists() else "{}"
    assert got == json.loads(known), f"if it is meant: cp {new} {GOLDEN}"


def test_yaml_of_a_config_is_plain_and_in_the_order_of_its_fields():
    assert list(yaml.safe_load(to_yaml(tiny()))) == list(RunConfig.model_fields)


@pytest.mark.parametrize("settings", [
    ["quantize={kind: rate_distortion}"],
    ["quantize={kind: rate_distortion}", "calibrate.tokens=131072"],
    ["quantize={kind: lqer, base: {kind: rate_distortion}}"],
    ["quantize={kind: rate_distortion, form: {kind: two_sided}}", "calibrate.fisher.tokens=64"],
])  # fmt: skip
def test_the_way_out_of_a_missing_measurement_leads_out(settings):
    with pytest.raises(ConfigError) as stopped:
        with_settings(tiny(), settings)
    way_out = stopped.value.remedy.removeprefix("--set ")
    assert with_settings(tiny(), [*settings, way_out]).calibrate.fisher is not None
