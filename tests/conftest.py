"""What the whole suite shares: one thread, quiet hypothesis, and one finished trial.

pgolf is imported by the fixtures that need it, so that a test of one small module starts in a blink. The
examples that hypothesis draws are the same on every run, so a red test is the change's doing;
`--hypothesis-profile=explore` goes looking for new ones.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pgolf.data.tokenizer import Tokenizer
    from pgolf.formats.result import Result
    from pgolf.run import RunConfig
    from pgolf.stage import Store

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

CALM = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "calm", deadline=None, max_examples=40, derandomize=True, database=None, suppress_health_check=CALM
)
settings.register_profile("explore", settings.get_profile("calm"), max_examples=1000, derandomize=False)
settings.load_profile("calm")


@dataclass(frozen=True)
class TinyTrial:
    """Recipe `tiny`, run whole: read its store and its results, never write to them."""

    store: "Store"
    config: "RunConfig"
    result: "Result"  # as run_trial gave it
    validated: "Result"  # the same with validation and certificate

    def stage(self, name: str) -> Path:
        """The directory that a stage of this trial published."""
        directory = {"evaluate": "evaluate_select", "validate": "evaluate_validation"}.get(name, name)
        found = self.store.find(directory, self.validated.stages[name].key)
        assert found is not None, f"{name} was published by this trial"
        return found.path


@pytest.fixture(scope="session")
def tiny_trial(tmp_path_factory: pytest.TempPathFactory) -> TinyTrial:
    """Run once however many test processes there are: the others find its stages in the store."""
    from pgolf.pipeline import run_trial, validate
    from pgolf.recipes import tiny
    from pgolf.runtime import Runtime
    from pgolf.stage import Store

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    config, store, runtime = tiny(), Store(shared / "tiny-store"), Runtime()
    with alone(shared / "tiny-store.lock"):
        result = run_trial(config, store, runtime)
        assert result is not None
        return TinyTrial(store, config, result, validate(result, store, runtime))


@pytest.fixture(scope="session")
def tiny_tokens(tiny_trial: TinyTrial) -> Path:
    """The token directory of the embedded corpus: tokenizer, shards and sidecars."""
    return tiny_trial.stage("tokenize")


@pytest.fixture(scope="session")
def tokenizer(tiny_tokens: Path) -> "Tokenizer":
    """The lossless tokenizer of recipe `tiny`."""
    from pgolf.data.source import TOKENIZER
    from pgolf.data.tokenizer import Tokenizer

    return Tokenizer.load(tiny_tokens / TOKENIZER)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
