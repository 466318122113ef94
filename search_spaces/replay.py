"""Known parameters walked through a space, strictly: unknown, missing and out-of-range values are errors.

Optuna accepts a queued value outside its range with a warning and ignores a queued name that the space
never asks for, so a recipe that drifted from its space would run as something else under its own name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial, FixedTrial

from pgolf.errors import ConfigError, nearest

Config = TypeVar("Config")
ON_GRID = 1e-8  # of a step: how far a float may lie from its grid


class StrictTrial(FixedTrial):
    """A trial whose every suggestion is given, and is refused where its distribution excludes it."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(dict(params))
        self.given = dict(params)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self._check(name, FloatDistribution(low, high, log=log, step=step))
        return super().suggest_float(name, low, high, step=step, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self._check(name, IntDistribution(low, high, log=log, step=step))
        return super().suggest_int(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self._check(name, CategoricalDistribution(choices))
        return super().suggest_categorical(name, choices)

    def _check(self, name: str, distribution: BaseDistribution) -> None:
        if name not in self.given:
            raise ConfigError(f"the space asks for '{name}' and it must be given", None,
                              f"add it: {_range(distribution)}")  # fmt: skip
        if not admits(distribution, self.given[name]):
            raise ConfigError(f"'{name}' lies in the space's range", self.given[name], _range(distribution))


def replay(space: Callable[[BaseTrial], Config], params: Mapping[str, Any]) -> Config:
    """The config that a space makes of these parameters, and of no others.

    Raises:
        ConfigError: for a parameter that is unknown, inactive, missing or out of range.
    """
    trial = StrictTrial(params)
    config = space(trial)
    if unknown := sorted(set(params) - set(trial.distributions)):
        name = unknown[0]
        rule, remedy = "the space asks for every parameter given", nearest(name, trial.distributions)
        raise ConfigError(rule, f"{name}={params[name]!r}", remedy)
    return config


def admits(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution could have produced the value."""
    if isinstance(distribution, CategoricalDistribution):
        return any(type(choice) is type(value) and choice == value for choice in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    assert isinstance(distribution, IntDistribution | FloatDistribution), "Optuna has these three kinds"
    if not distribution.low <= value <= distribution.high:
        return False
    if isinstance(distribution, IntDistribution):
        return isinstance(value, int) and (value - distribution.low) % distribution.step == 0
    if distribution.step is None:
        return True
    steps = (value - distribution.low) / distribution.step
    return abs(steps - round(steps)) < ON_GRID


def _range(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return "one of " + ", ".join(map(repr, distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    step = f" in steps of {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{distribution.low} to {distribution.high}{step}"
