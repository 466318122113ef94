"""The rounds, one module each: `rounds/<name>.py` defines `ROUND`. Found by name, listed by looking."""

import importlib
import pkgutil

from pgolf.errors import ConfigError, nearest
from search_spaces.round import Round


def names() -> list[str]:
    """Every round there is, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> Round:
    """The round of that name.

    Raises:
        ConfigError: if there is none; names the nearest.
    """
    known = names()
    if name not in known:
        raise ConfigError("a round is a module under search_spaces/rounds", name, nearest(name, known))
    round_ = importlib.import_module(f"{__name__}.{name}").ROUND
    assert isinstance(round_, Round), f"{name}.ROUND is a Round"
    return round_
