"""Ternary and binary candidates: the quantizer follows what was trained, and a config answers for its parameters."""

import optuna
import pytest

from pgolf.recipes import laptop_binary, laptop_late, laptop_ternary
from pgolf.run import RunConfig, parse_config
from pgolf.train.grouped_qat import Grouped
from search_spaces.quantize.binary import binary
from search_spaces.quantize.gptq import gptq
from search_spaces.quantize.ternary import ternary
from search_spaces.train.grouped_qat import grouped_qat
from search_spaces.train.late_qat import late_qat
from search_spaces.warm import params_of

QUANTIZERS = {"ternary": ternary, "binary": binary}


def space(trial: optuna.trial.BaseTrial) -> RunConfig:
    base = laptop_late()
    late = late_qat(trial, "train.late_qat", grouped=True)
    if isinstance(late, Grouped):
        quantize = QUANTIZERS[late.kind](trial, "quantize", late.group)
    else:
        quantize = gptq(trial, "quantize")
    return base.but(train=base.train.but(late_qat=late), quantize=quantize)


def asked(seed: int) -> optuna.trial.Trial:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()


@pytest.mark.parametrize("seed", range(16))
def test_every_parameter_is_answered_by_the_config_that_it_made(seed):
    trial = asked(seed)
    config = space(trial)
    assert params_of(space, config) == trial.params
    assert parse_config(config.plain()) == config


def test_all_kinds_are_drawn_where_they_may_be_and_none_where_not():
    drawn = {getattr(space(asked(seed)).train.late_qat, "kind", None) for seed in range(40)}
    assert drawn == {None, "straight_through", "soft_round", "noisy", "ternary", "binary"}
    plain = {getattr(late_qat(asked(seed), "late"), "kind", None) for seed in range(40)}
    assert plain == {None, "straight_through", "soft_round", "noisy"}
    assert {grouped_qat(asked(seed), "g").kind for seed in range(9)} == {"ternary", "binary"}


@pytest.mark.parametrize("recipe", [laptop_ternary, laptop_binary])
def test_a_recipe_is_a_point_of_the_spaces_that_it_is_made_of(recipe):
    config = recipe()

    def here(trial):
        late = grouped_qat(trial, "train.late_qat")
        quantize = QUANTIZERS[late.kind](trial, "quantize", late.group)
        return config.but(train=config.train.but(late_qat=late), quantize=quantize)

    assert params_of(here, config)["train.late_qat.kind"] == config.quantize.kind
