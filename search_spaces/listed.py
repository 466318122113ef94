"""Choices that are lists: a sampler knows them by their JSON, which is also what `--set` takes."""

import json
from collections.abc import Sequence
from typing import Any

from optuna.trial import BaseTrial


def listed(trial: BaseTrial, name: str, choices: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """One of the choices."""
    texts = [json.dumps(choice) for choice in choices]
    return choices[texts.index(trial.suggest_categorical(name, texts))]
