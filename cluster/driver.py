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
from search_spaces.study import Study, check, most_gang_seconds, most_scoring_seconds

StoppedBy = Literal["trials", "budget", "interrupt"]


@dataclass(frozen=True)
class SearchOutcome:
    """What a search came to, and where it lies."""

    round_name: str
    results: dict[int, Result]  # every finished trial of the study, earlier drivers' included
    ranked: list[int]  # feasible trials, best bpb on the select split first
    stopped_by: StoppedBy
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
    if not resume:
        _refuse_a_budget_for_nothing(round_, budget.gang_seconds)
    _refuse_a_far_store_with_near_records(store, tracking_uri, study_storage)
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
            books = Books(study, Results(store, round_.name), recorder, say, budget, attach)
            books.open(store.root)
            stopped_by, unscored = _run(books, store, trial_runner, validator)
        finally:
            recorder.finish()
        return SearchOutcome(
            round_.name, books.finished, books.ranked(), stopped_by, study.committed(), unscored, storage
        )


def _run(
    books: Books, store: Store, runner: TrialRunner, validator: finalists.Validator
) -> tuple[StoppedBy, dict[int, str]]:
    """Trials, then finalists; what stopped it, and what could not be scored."""
    unscored: dict[int, str] = {}
    try:
        if not books.exhausted():
            _run_trials(books, store, runner)
        if not books.live and books.stopped_by is not None:  # else Tune was interrupted, and has returned
            unscored = _score_finalists(books, store, validator)
            return books.stopped_by, unscored
    except KeyboardInterrupt:  # while neither Tune nor a trial was there to take it
        pass
    return "interrupt", unscored


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
    rules = books.study.round.rules
    return finalists.score(books, finalists.on_a_gang(rules.gang, validator, store))


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


def _refuse_a_budget_for_nothing(round_: Round, gang_seconds: float | None) -> None:
    first = most_gang_seconds(round_.rules) + min(round_.finalists, 1) * most_scoring_seconds(round_.rules)
    if gang_seconds is not None and gang_seconds < first:
        hours, price = first * round_.rules.gang.ranks / 3600, first * round_.rules.usd_per_hour / 3600
        least = f"at least --gpu-hours {math.ceil(hours * 1000) / 1000}"
        least += f" or --usd {math.ceil(price * 100) / 100:.2f}" if price else ""
        rule = "a budget pays for one trial and its scoring, estimated from above"
        raise ConfigError(rule, f"{gang_seconds:.0f} gang-seconds", least)


def _refuse_a_far_store_with_near_records(
    store: Store, tracking_uri: str | None, study_storage: str | None
) -> None:
    """Results beyond this machine need their study and their records beyond it too."""
    if store.local or (tracking_uri and study_storage):
        return
    missing = [
        name
        for name, url in {"--tracking-uri": tracking_uri, "--study-storage": study_storage}.items()
        if not url
    ]
    raise UserError("the embedded databases lie in a local store; a store given as a URL needs its own",
                    f"--store {store.root} without {' and '.join(missing)}",
                    "give both URLs: http://HOST:5000 and, for the study, postgresql://USER@HOST/NAME")  # fmt: skip


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
