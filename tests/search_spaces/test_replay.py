import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pgolf.errors import ConfigError
from search_spaces.replay import admits, replay
from search_spaces.simulate import space

BASELINE = {"adapt.on": True, "adapt.lr": 1e-3, "layers": 6, "width": 256, "bits": 6, "lr": 0.02}


def test_known_parameters_come_back_as_their_config():
    config = replay(space, BASELINE)
    assert (config.layers, config.width, config.adapt_lr) == (6, 256, 1e-3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": 99}, "'layers' lies in the space's range"),
        ({"layers": 6.5}, "'layers' lies in the space's range"),
        ({"width": 257}, "steps of 32"),
        ({"lr": 1.0}, "0.001 to 0.4"),
        ({"adapt.on": 1}, "one of False, True"),
        ({"lairs": 6}, "did you mean 'layers'"),
        ({"adapt.on": False}, "adapt.lr"),  # given, but inactive beside this switch
    ],
)
def test_what_does_not_fit_the_space_is_refused_by_name(change, says):
    with pytest.raises(ConfigError, match=says) as caught:
        replay(space, {**BASELINE, **change})
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("missing", BASELINE)
def test_a_missing_parameter_is_refused_by_name(missing):
    params = {name: value for name, value in BASELINE.items() if name != missing}
    with pytest.raises(ConfigError, match=missing):
        replay(space, params)


@pytest.mark.parametrize(
    "distribution",
    [
        IntDistribution(2, 17, step=3),
        IntDistribution(1, 500, log=True),
        FloatDistribution(0.0, 1.0, step=0.1),
        FloatDistribution(1e-5, 1e-1, log=True),
        CategoricalDistribution(["a", 1, True, None]),
    ],
)
def test_whatever_a_sampler_proposes_is_admitted(distribution):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        value = study.ask({"p": distribution}).params["p"]
        assert admits(distribution, value)
