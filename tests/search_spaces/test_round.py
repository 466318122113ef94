import pytest

from pgolf.errors import ConfigError
from search_spaces import rounds
from search_spaces.round import Gate
from search_spaces.simulate import ROUND


def test_an_unknown_round_is_an_error_that_names_the_known_ones():
    with pytest.raises(ConfigError, match="known") as caught:
        rounds.load("labtop")
    assert len(str(caught.value).splitlines()) <= 3


def test_every_round_that_is_listed_loads_under_its_own_name():
    for name in rounds.names():
        assert rounds.load(name).name == name


@pytest.mark.parametrize("change", [{"trials": 0}, {"max_concurrent": 0}, {"objectives": ()},
                                    {"objectives": ("bbp",)}, {"finalists": -1}])  # fmt: skip
def test_a_round_of_no_size_or_no_objective_is_refused(change):
    with pytest.raises(ConfigError):
        type(ROUND)(**{**vars(ROUND), **change})


@pytest.mark.parametrize("gate", [(0.0, 1.1), (1.0, 1.1), (0.5, 0.99)])
def test_a_gate_that_would_kill_the_best_or_never_open_is_refused(gate):
    with pytest.raises(ConfigError):
        Gate(*gate)
