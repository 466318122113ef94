"""A round: one search, stated as a value. Its space, the rules it plays by, its starting points, its size.

A round says *what* is searched and nothing about where: the same value drives a laptop and a cluster,
and the study in storage is checked against it on every resume.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.trial import BaseTrial

from pgolf.errors import ConfigError, nearest
from pgolf.rules import Rules

if TYPE_CHECKING:
    from pgolf.run import RunConfig

BPB = ("bpb",)
FRONT = ("bpb", "artifact_bytes", "eval_seconds")  # the deployed tuple, all of it minimized


@dataclass(frozen=True)
class Gate:
    """A kill rule: at `at_fraction` of training, no worse than `tolerance` times the best seen there."""

    at_fraction: float  # of the training budget
    tolerance: float  # 1.05: five percent worse than the best earlier trial is still let through

    def __post_init__(self) -> None:
        if not 0 < self.at_fraction < 1:
            raise ConfigError(
                "a gate stands inside the training run", self.at_fraction, "0 < at_fraction < 1"
            )
        if self.tolerance < 1:
            raise ConfigError(
                "a gate lets the best trial through", self.tolerance, "a tolerance of at least 1"
            )


@dataclass(frozen=True)
class Round:
    """One search. `space` is a plain function from an Optuna trial to a whole config."""

    name: str
    space: "Callable[[BaseTrial], RunConfig]"
    rules: Rules
    trials: int  # of the whole study, warm starts included
    max_concurrent: int  # trials, not ranks
    warm_starts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # recipe -> flat parameters
    objectives: tuple[str, ...] = BPB
    gate: Gate | None = None
    startup_trials: int = 10  # sampled at random before the model of the space is trusted
    seed: int = 0
    finalists: int = 3  # scored once on the validation split at the end

    def __post_init__(self) -> None:
        for name, least in {"trials": 1, "max_concurrent": 1, "startup_trials": 0, "finalists": 0}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} of a round is at least {least}", getattr(self, name),
                                  f"give {name}={least} or more")  # fmt: skip
        if unknown := [name for name in self.objectives if name not in FRONT]:
            raise ConfigError(
                "an objective is part of the deployed tuple", unknown[0], nearest(unknown[0], FRONT)
            )
        if not self.objectives:
            raise ConfigError("a round has an objective", self.objectives, "for example ('bpb',)")
