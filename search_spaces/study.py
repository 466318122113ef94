"""The study: Optuna's storage as the only truth about a search, behind ask and tell.

Rules that the rest of the service leans on:

  * bpb is minimized under the caps. A cap is a constraint, violation = value / cap - 1: relative, because
    the sampler adds violations up and bytes would drown seconds.
  * A trial over a cap is still COMPLETE: its values are true and teach the model. A trial that ended before
    it had values is PRUNED and carries the violation that ended it. FAIL is for faults, which teach nothing.
  * Whatever is RUNNING when a driver opens the study is the orphan of a dead driver. It is handed out again
    under its own number (stored suggestions come back, the missing ones are sampled), so that nothing is
    lost, nothing runs twice and no zombie stays behind: zombies count as bad points and mislead the sampler.
  * The sampler's seed moves with the number of trials: a re-made sampler with an old seed would propose
    again what it proposed before.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pgolf.errors import StoreError, UserError
from pgolf.formats.result import Result
from pgolf.rules import Rules
from pgolf.stage import made_whole
from search_spaces.replay import replay
from search_spaces.round import Round

if TYPE_CHECKING:
    from pgolf.run import RunConfig

MOST_ATTEMPTS = 3  # a trial that outlived this many drivers is the likelier culprit
MOST_ATTEMPTS_WHEN_LOST = 2  # a gang that died is tried once more
CAPS = ("artifact_bytes", "train_seconds", "eval_seconds")
SQLITE = "sqlite:///"
SCORING = "scoring_seconds"  # study attribute: {number of a finalist: seconds}


@dataclass(frozen=True)
class Proposal:
    """A trial as it is handed out: its number in the study, its config, which attempt this is."""

    number: int
    config: "RunConfig"
    params: dict[str, Any]
    attempt: int


class Study:
    """One round's study, opened by one driver at a time."""

    def __init__(self, round_: Round, storage: BaseStorage) -> None:
        self.round = round_
        self.storage = storage
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna.create_study(
            study_name=round_.name, storage=storage, directions=["minimize"] * len(round_.objectives),
            pruner=optuna.pruners.NopPruner(), load_if_exists=True,
        )  # fmt: skip
        self._check_terms()
        self.optuna.sampler = sampler(round_, len(self.trials))
        self._live: dict[int, Trial] = {}
        self._again = [trial.number for trial in self.trials if trial.state == TrialState.RUNNING]
        self._queue_warm_starts()

    @staticmethod
    def open(round_: Round, storage: str | BaseStorage, *, resume: bool = False) -> "Study":
        """Begin the round's study, or go on with it.

        Raises:
            UserError: if there are trials and `resume` was not asked for, or the other way round.
            StoreError: if the study was begun under other rules or objectives.
            ConfigError: if a warm start does not fit the space.
        """
        check(round_, storage, resume=resume)
        return Study(round_, connected(storage))

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial in storage, by number, the waiting ones included."""
        return self.optuna.get_trials(deepcopy=False)

    @property
    def issued(self) -> int:
        """How many trials were ever handed out: what a limit on trials counts."""
        return sum(trial.state != TrialState.WAITING for trial in self.trials)

    def digests(self) -> dict[int, str]:
        """{number: config digest} of every trial that was handed out."""
        known = ((trial.number, trial.user_attrs.get("config_digest")) for trial in self.trials)
        return {number: digest for number, digest in known if digest is not None}

    @property
    def orphans(self) -> tuple[int, ...]:
        """Numbers to be handed out again before anything new is asked for."""
        return tuple(self._again)

    @property
    def hopeless(self) -> tuple[int, ...]:
        """Orphans that were handed out too often. Whoever knows of no result for them abandons them."""
        trials = self.trials
        return tuple(n for n in self._again if trials[n].user_attrs.get("attempts", 0) >= MOST_ATTEMPTS)

    def abandon(self, number: int, why: str) -> None:
        """Give up on an orphan: it is told FAIL."""
        self._again.remove(number)
        revived = self._revived(number)
        revived.set_user_attr("why", why)
        revived.set_user_attr("status", "failed")
        self.optuna.tell(revived, state=TrialState.FAIL)

    def ask(self) -> Proposal:
        """The next trial: an orphan under its own number, else a queued warm start, else a new proposal."""
        trial = self._revived(self._again.pop(0)) if self._again else self.optuna.ask()
        attempt = int(trial.user_attrs.get("attempts", 0)) + 1
        trial.set_user_attr("attempts", attempt)  # first: it must count even if the space kills the driver
        config = self.round.space(trial)
        if recipe := trial.user_attrs.get("recipe"):
            config = config.but(name=recipe)
        for key, value in {
            "config_digest": config.digest,
            "run_name": config.label,
            "seed": config.seed,
        }.items():
            trial.set_user_attr(key, value)
        self._live[trial.number] = trial
        return Proposal(trial.number, config, dict(trial.params), attempt)

    def spent(self, number: int, gang_seconds: float) -> None:
        """What the last attempt of a trial cost, before its verdict is told."""
        self._live[number].set_user_attr("gang_seconds", gang_seconds)

    def tell(self, number: int, result: Result) -> None:
        """What a trial came to. See the rules above."""
        trial = self._live.pop(number, None) or self._revived(number)
        self._again = [waiting for waiting in self._again if waiting != number]
        told = self._frozen(number).constraints
        for key, violation in violations(result, self.round.rules).items():
            if key not in told:  # a driver may have died between the first constraint and the verdict
                trial.set_constraint(key, violation)
        trial.set_user_attr("status", result.status)
        values = [getattr(result.tuple, name) for name in self.round.objectives]
        if result.status == "failed":
            trial.set_user_attr("why", result.error or "failed")
            self.optuna.tell(trial, state=TrialState.FAIL)
        elif all(value is not None and math.isfinite(value) for value in values):
            self.optuna.tell(trial, [float(value) for value in values])
        else:
            assert result.infeasible, "a trial without its objectives says what it broke"
            self.optuna.tell(trial, state=TrialState.PRUNED)

    def again(self, number: int) -> bool:
        """A gang died under a trial. True if it will be handed out again; else it is to be told as failed."""
        if self._live[number].user_attrs["attempts"] >= MOST_ATTEMPTS_WHEN_LOST:
            return False
        del self._live[number]
        self._again.append(number)
        return True

    def passed_gate(self, number: int, bpb: float) -> None:
        """Keep what a trial measured at its gate; later trials are held to the best of these.

        What is no number would win every comparison there, and is not kept.
        """
        if math.isfinite(bpb):
            self._live[number].set_user_attr("gate_bpb", bpb)

    def gate_limit(self) -> float | None:
        """What a trial that starts now must stay under at its gate; None if nothing was measured yet.

        Trials that turned out to be over a cap do not count: an illegal giant would shut the gate to all.
        """
        seen = [
            trial.user_attrs["gate_bpb"]
            for trial in self.trials
            if "gate_bpb" in trial.user_attrs and all(trial.constraints.get(cap, 0) <= 0 for cap in CAPS)
        ]
        return self.round.gate.tolerance * min(seen) if self.round.gate and seen else None

    def scored(self, number: int, seconds: float) -> None:
        """What scoring a finalist took, failed attempts included; its trial is finished and takes no more notes."""
        taken = dict(self.optuna.user_attrs.get(SCORING, {}))
        taken[str(number)] = taken.get(str(number), 0.0) + seconds
        self.optuna.set_user_attr(SCORING, taken)

    def committed(self) -> float:
        """Gang-seconds spent or promised so far: trials and, in full, the scoring of finalists."""
        scoring = sum(self.optuna.user_attrs.get(SCORING, {}).values())
        return committed(self.trials, self.round) + scoring

    # ------------------------------------------------------------------------------------- opening

    def _check_terms(self) -> None:
        terms = {"objectives": list(self.round.objectives), "rules": self.round.rules.plain()}
        begun = self.optuna.user_attrs.get("terms")
        if begun is None:
            self.optuna.set_user_attr("terms", terms)
            return
        for key, value in terms.items():
            if begun[key] != value:
                rule, remedy = f"a study keeps the {key} it was begun with", "resume with the same"
                raise StoreError(
                    rule, f"{value}, begun with {begun[key]}", f"{remedy}, or take another --store"
                )

    def _queue_warm_starts(self) -> None:
        queued = {trial.user_attrs.get("recipe") for trial in self.trials}
        for recipe, params in self.round.warm_starts.items():
            if recipe not in queued:
                self.optuna.enqueue_trial(dict(params), user_attrs={"recipe": recipe})

    def _revived(self, number: int) -> Trial:
        """The live handle of a trial that storage holds as RUNNING."""
        study_id = self.storage.get_study_id_from_name(self.round.name)
        return Trial(self.optuna, self.storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def _frozen(self, number: int) -> FrozenTrial:
        return self.trials[number]


def check(round_: Round, storage: str | BaseStorage, *, resume: bool) -> None:
    """Refuse what `Study.open` would refuse for the arguments' sake, before anything is created."""
    for params in round_.warm_starts.values():
        replay(round_.space, params)
    begun = has_trials(storage, round_.name)
    where = without_password(storage) if isinstance(storage, str) else type(storage).__name__
    if begun and not resume:
        raise UserError(f"the study '{round_.name}' has trials already", where,
                        "add --resume to go on with it, or another --store to begin anew")  # fmt: skip
    if resume and not begun:
        raise UserError(f"--resume goes on with a study, and there is none for '{round_.name}'", where,
                        "leave --resume out to begin one")  # fmt: skip


def sampler(round_: Round, seen: int) -> BaseSampler:
    """TPE: jointly over each group of parameters that occur together; independent for a front."""
    seed = round_.seed + seen
    if len(round_.objectives) > 1:
        return TPESampler(n_startup_trials=round_.startup_trials, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `group` is, and has been for years
        return TPESampler(multivariate=True, group=True, n_startup_trials=round_.startup_trials, seed=seed)


def violations(result: Result, rules: Rules) -> dict[str, float]:
    """Constraint values of a result, feasible at or below zero: the measured caps, and what ended it."""
    found = {name: value / (getattr(rules, name) or 1) - 1 for name in CAPS
             if (value := getattr(result, name)) is not None}  # fmt: skip
    for outcome in result.infeasible:
        found[outcome.reason] = max(found.get(outcome.reason, 0.0), outcome.violation)
    return found


def most_gang_seconds(rules: Rules, trials: Sequence[FrozenTrial] = ()) -> float:
    """What a trial is charged before it has ended: an upper estimate, for no clock covers all of it.

    Both capped clocks, and as much again for what has no cap: making the data (the first trial's), scoring
    before quantization, quantizing, packing, starting processes. A study in which a trial took even longer
    charges what its dearest trial took.
    """
    dearest = max((trial.user_attrs.get("gang_seconds", 0.0) for trial in trials), default=0.0)
    return max(2 * (rules.train_seconds + rules.eval_seconds), dearest)


def most_scoring_seconds(rules: Rules) -> float:
    """The same for a finalist: the validation split at the cap, and as much again for its certificate."""
    return 2 * rules.eval_seconds


def committed(trials: Sequence[FrozenTrial], round_: Round) -> float:
    """Gang-seconds of what has finished, plus every running or lost attempt at its maximum."""
    total, most = 0.0, most_gang_seconds(round_.rules, trials)
    for trial in trials:
        if trial.state == TrialState.WAITING:
            continue
        attempts = trial.user_attrs.get("attempts", 1)
        spent = trial.user_attrs.get("gang_seconds")
        lost_or_running = attempts if spent is None else attempts - 1
        total += (spent or 0.0) + lost_or_running * most
    return total


def connected(storage: str | BaseStorage) -> BaseStorage:
    """The storage behind a URL; an SQLite file is made with all its tables, or not at all.

    Raises:
        UserError: if it is no URL of a database, or the database cannot be opened.
    """
    if not isinstance(storage, str):
        return storage
    try:
        if (file := _sqlite_file(storage)) is not None:
            made_whole(file, lambda half: RDBStorage(f"sqlite:///{half}"))
        return RDBStorage(storage)
    except (SQLAlchemyError, ImportError, OSError) as error:
        why = f"{without_password(storage)}: {str(error).splitlines()[0]}"
        remedy = "for example --study-storage sqlite:////data/study.db or postgresql://user@host/name"
        raise UserError("a study's storage is the URL of a database that answers", why, remedy) from None


def without_password(url: str) -> str:
    """A database's URL as it may be shown."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def has_trials(storage: str | BaseStorage, study_name: str) -> bool:
    """Whether the study exists with any trial in it. Creates no file."""
    if isinstance(storage, str) and (file := _sqlite_file(storage)) is not None and not file.exists():
        return False
    known = connected(storage)
    if study_name not in optuna.get_all_study_names(known):
        return False
    return bool(known.get_all_trials(known.get_study_id_from_name(study_name), deepcopy=False))


def _sqlite_file(url: str) -> Path | None:
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None
