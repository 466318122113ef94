"""Recipes: functions that give whole configs, each its own candidate, with sizes that are what they say."""

from pathlib import Path

import pytest

from pgolf.data.directory import TOKENIZER_FILE
from pgolf.data.published import ROOT, VARIANTS
from pgolf.data.source import Shards
from pgolf.data.tokenizer import SpBpe
from pgolf.errors import ConfigError, DataError
from pgolf.estimate import estimate
from pgolf.recipes import RECIPES, recipe
from pgolf.records import PUBLISHED
from pgolf.rules import PARAMETER_GOLF
from pgolf.train.budget import Steps


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_whole_config_under_its_own_name(name):
    config = recipe(name)
    assert config.name == name
    assert type(config).model_validate(config.plain()) == config
    assert RECIPES[name]() == config  # no hidden state
    assert RECIPES[name].__doc__


def test_recipes_are_different_candidates():
    assert len({recipe(name).digest for name in RECIPES}) == len(RECIPES)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'laptop_late'"):
        recipe("laptop_lat")


@pytest.mark.parametrize("name", [n for n in RECIPES if isinstance(recipe(n).data, Shards)])
def test_published_shards_are_looked_for_where_fetching_puts_them(name, tmp_path, monkeypatch):
    """The command that the refusal names is one that exists, and fills the folder that the recipe reads."""
    data = recipe(name).data
    folder = Path(data.tokenizer).parent
    assert folder.parent == Path(ROOT)
    assert folder.name in VARIANTS
    assert Path(data.tokenizer).name == TOKENIZER_FILE
    assert Path(data.train).parent == Path(data.validation).parent == folder
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"pgolf data fetch {folder.name} --out {folder}"):
        data.check()
    folder.mkdir(parents=True)
    (tmp_path / data.tokenizer).write_bytes(SpBpe(vocab_size=300).train([b"a text " * 20]).model)
    with pytest.raises(
        DataError, match=rf"data.train names(.|\n)*pgolf data fetch {folder.name} --out {folder}"
    ):
        data.check()


def test_what_was_published_is_about_recipes_that_exist():
    assert PUBLISHED.keys() <= RECIPES.keys()


def test_the_naive_baseline_is_the_competitions_own():
    """Its README: 9 layers of width 512, 8 heads over 4 key-value heads, vocabulary 1024, tied: 17 059 912."""
    config = recipe("naive_baseline")
    assert (config.model.layers, config.model.width) == (9, 512)
    assert (config.model.attention.heads, config.model.attention.kv_heads) == (8, 4)
    assert config.rules == PARAMETER_GOLF
    assert estimate(config).params == 17_059_912


@pytest.mark.parametrize("name", [n for n in RECIPES if n == "tiny" or n.startswith("laptop")])
def test_a_laptop_recipe_counts_steps_so_that_it_can_be_repeated_byte_for_byte(name):
    assert isinstance(recipe(name).train.budget, Steps)
    assert recipe(name).rules.gang.device == "cpu"


def test_a_recipes_predicted_bytes_are_near_what_tiny_really_weighs(tiny_trial):
    """A prediction to choose by, not a promise: within a tenth on rows as short as these."""
    predicted, real = estimate(tiny_trial.config), tiny_trial.result
    assert predicted.params == real.params
    assert predicted.predicted_artifact_bytes == pytest.approx(real.artifact_bytes, rel=0.10)


def test_the_list_says_every_number_whole_in_a_pipe(monkeypatch, capsys):
    """A pipe has 80 columns, in which numbers would be cut."""
    from pgolf.cli import recipes

    monkeypatch.setenv("COLUMNS", "80")
    recipes(gpu=None, as_json=False)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert all(name in shown for name in RECIPES)
    assert "35,945,671" in shown
