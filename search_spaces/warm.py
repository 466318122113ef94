"""A recipe as a point of a space: what the sampler would have to suggest to arrive at it.

Parameter names are config paths, so a recipe answers a space's questions itself: `model.layers` is the
value at that path, `model.u_net.on` asks whether the section is there. A recipe outside the space is
refused, as is one that the space rebuilds as something else.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from optuna.trial import BaseTrial, FixedTrial

from pgolf.errors import ConfigError
from pgolf.run import RunConfig
from search_spaces.replay import replay


def params_of(space: Callable[[BaseTrial], RunConfig], config: RunConfig) -> dict[str, Any]:
    """The flat parameters that make `space` return `config`.

    Raises:
        ConfigError: if the space cannot express the config; names the first difference.
    """
    asked = _Answering(config)
    space(asked)
    params = dict(asked.given)
    rebuilt = replay(space, params)
    if rebuilt.digest != config.digest:
        raise ConfigError("a warm start lies in the round's space", _difference(config.plain(), rebuilt.plain()),
                          "widen the space or change the recipe")  # fmt: skip
    return params


class _Answering(FixedTrial):
    """Answers every suggestion with what the config says at that path."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__({})
        self.config = config
        self.given: dict[str, Any] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._answer(name)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._answer(name)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(name)

    def _answer(self, name: str) -> Any:
        path = name.split(".")
        value: Any = self.config
        for part in path[:-1]:
            value = getattr(value, part)
        found = value is not None if path[-1] == "on" else getattr(value, path[-1])
        self.given[name] = json.dumps(found) if isinstance(found, tuple) else found
        return self.given[name]


def _difference(a: Any, b: Any, at: str = "") -> str:
    """The first path where two plain values differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if key not in ("name", "seed") and a.get(key) != b.get(key):
                return _difference(a.get(key), b.get(key), f"{at}.{key}".strip("."))
    return f"{at}: the recipe has {a!r}, the space makes {b!r}"
