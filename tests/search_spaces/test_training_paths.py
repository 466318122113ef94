"""What is searched of the training is read back from the config, by its path: a recipe can be a warm start."""

import optuna
import pytest

from pgolf.recipes import laptop_baseline
from pgolf.run import RunConfig, parse_config
from search_spaces.data.loader import loader
from search_spaces.train.late_qat import late_qat
from search_spaces.train.objective import objective
from search_spaces.train.progressive_context import progressive_context
from search_spaces.train.warmup import warmup
from search_spaces.warm import params_of


def space(trial: optuna.trial.BaseTrial) -> RunConfig:
    base = laptop_baseline()
    train = base.train.but(
        loader=loader(trial, "train.loader", rows_of=(512, 1024)),
        progressive_context=progressive_context(trial, "train.progressive_context", base.train.context),
        objective=objective(trial, "train.objective"),
        late_qat=late_qat(trial, "train.late_qat"),
        warmup=warmup(trial, "train.warmup"),
    )
    return base.but(train=train)


@pytest.mark.parametrize("seed", range(12))
def test_every_parameter_is_answered_by_the_config_that_it_made(seed):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    config = space(trial)
    assert params_of(space, config) == trial.params
    assert parse_config(config.plain()) == config
