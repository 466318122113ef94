"""The driver: a round in, a finished study out. Checks, opens, lets Tune run, scores the finalists.

All state is in three places that outlive it: the study's storage, the store (results of trials, caches of
stages) and the recorder's outbox. Killed at any moment, a driver with `resume` goes on where it stopped.
"""

import fcntl
import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ray import tune

from cluster import finalists
from cluster.books import Books, Budget, Recorder, Results
from cluster.events import Say
from cluster.searcher import StudySearcher
from cluster.session import session
from cluster.trainable import GangTrainable, TrialRunner, placement
from pgolf import pipeline
from pgolf.errors import ConfigError, UserError
from pgolf.formats.result import Result
from pgolf.rules import Rules
from pgolf.stage import Store
from search_spaces.round import FRONT, Round
from search_spaces.study import Study, check


@dataclass(frozen=True)
class SearchOutcome:
    """What a search came to, and where it lies."""

    round_name: str
    results: dict[int, Result]  # every finished trial of the study, earlier drivers' included
    ranked: list[int]  # feasible trials, best bpb on the select split first
    stopped_by: Literal["trials", "budget", "interrupt"]
    gang_seconds: float  # committed by the whole study
    unscored: dict[int, str]  # finalists whose validation ended in an error
    study_storage: str

    @property
    def best(self) -> int | None:
        return self.ranked[0] if self.ranked else None


def search(
    round_: Round,
    *,
    store: Store,
    trials: int | None = None,
    max_concurrent: int | None = None,
    gpu_hours: float | None = None,
    usd: float | None = None,
    ray_address: str | None = None,
    tracking_uri: str | None = None,
    study_storage: str | None = None,
    resume: bool = False,
    front: bool = False,
    trial_runner: TrialRunner = pipeline.run_trial,
    validator: finalists.Validator = pipeline.validate,
    open_recorder: Callable[..., Recorder] | None = None,  # None: services.tracking.Recorder.open
    say: Say,
) -> SearchOutcome:
    """Run a round to its limit of trials or spend, then score its finalists.

    Raises:
        UserError: for arguments that contradict each other, the machine or the study; nothing was made yet.
    """
    round_ = _adjusted(round_, trials, max_concurrent, front)
    budget = Budget(round_.trials, round_.max_concurrent, _gang_seconds(round_.rules, gpu_hours, usd))
    home = store.directory
    storage = study_storage or f"sqlite:///{home}/study.db"
    check(round_, storage, resume=resume)
    with session(ray_address, round_.rules), only_driver(home / f"search-{round_.name}.lock"):
        study = Study.open(round_, storage, resume=resume)
        recorder = (open_recorder or _recorder())(
            round_name=round_.name,
            store_dir=home,
            tracking_uri=tracking_uri,
            rules=round_.rules,
            resume=resume,
        )
        try:
            attach = partial(pipeline.attachments, store=store)
            books = Books(study, Results(home / "trials" / round_.name), recorder, say, budget, attach)
            books.open(store.root)
            if not books.exhausted():
                _run_trials(books, store, trial_runner)
            unscored = {} if books.live else _score_finalists(books, store, validator)
        finally:
            recorder.finish()
        return SearchOutcome(
            round_.name, books.finished, books.ranked(), _why(books), study.committed(), unscored, storage
        )


def _run_trials(books: Books, store: Store, runner: TrialRunner) -> None:
    """Let Tune ask and tell until the books say that it is over."""
    rules = books.study.round.rules
    trainable = tune.with_parameters(
        GangTrainable, rules=rules, store=store, runner=runner, command=shlex.join(sys.argv)
    )
    scratch = store.directory / "tune"
    name = f"{books.study.round.name}-{time.time_ns()}"  # never one that exists: nothing is restored from it
    tune.Tuner(
        tune.with_resources(trainable, placement(rules)),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(books), num_samples=-1, reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=name, storage_path=str(scratch.absolute()), verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # stages are the checkpoints
        ),
    ).fit()  # fmt: skip
    shutil.rmtree(scratch / name, ignore_errors=True)


def _score_finalists(books: Books, store: Store, validator: finalists.Validator) -> dict[int, str]:
    round_ = books.study.round
    scorer = finalists.on_a_gang(round_.rules.gang, validator, store)
    return finalists.score(books, round_.finalists, scorer)


def _adjusted(round_: Round, trials: int | None, max_concurrent: int | None, front: bool) -> Round:
    changes: dict[str, Any] = {"trials": trials, "max_concurrent": max_concurrent}
    changes = {name: value for name, value in changes.items() if value is not None}
    return replace(round_, **changes, objectives=FRONT if front else round_.objectives)


def _gang_seconds(rules: Rules, gpu_hours: float | None, usd: float | None) -> float | None:
    """The tighter of the two budgets, as seconds of one gang."""
    for name, value in {"--gpu-hours": gpu_hours, "--usd": usd}.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{name} is a positive number", value, "leave it out for no limit")
    limits = []
    if gpu_hours is not None:
        limits.append(gpu_hours * 3600 / rules.gang.ranks)
    if usd is not None:
        if rules.usd_per_hour <= 0:
            raise ConfigError(f"--usd needs a price, and the profile '{rules.name}' has none", usd,
                              "set usd_per_hour in the round's rules, or use --gpu-hours")  # fmt: skip
        limits.append(usd / rules.usd_per_hour * 3600)
    return min(limits, default=None)


def _why(books: Books) -> Literal["trials", "budget", "interrupt"]:
    return "interrupt" if books.live or books.stopped_by is None else books.stopped_by


@contextmanager
def only_driver(lock: Path) -> Iterator[None]:
    """Hold a study alone: a second driver would take the first one's running trials for orphans.

    The kernel drops the lock with the process, so a killed driver leaves nothing to clean up.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            remedy = "wait for the other search to end, or take another --store"
            raise UserError("one driver at a time works on a study", str(lock), remedy) from None
        yield


def _recorder() -> Callable[..., Recorder]:
    from services.tracking import (
        Recorder as Tracking,
    )  # late: seconds of import that a refusal needs not wait for

    return Tracking.open
