"""The books of a search: who gets which trial, what was heard, what it came to. Knows nothing of Ray.

The order in which an outcome is written makes a kill at any moment harmless:

    result file -> recorder's outbox -> study

A trial counts as finished once its result file lies there whole. A driver that dies between the lines leaves
a RUNNING trial with a result; the next one tells it without running it again.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cluster.events import Say, SearchStarted, TrialFinished, TrialLost, TrialProgress, TrialStarted
from cluster.gang import Said, Verdict
from cluster.gates import GATE_BPB, GateLimit
from cluster.trainable import Assignment
from pgolf.formats.result import DeployedTuple, Result
from pgolf.stage import Store
from search_spaces.study import Proposal, Study, most_gang_seconds, most_scoring_seconds

if TYPE_CHECKING:
    from pgolf.run import RunConfig


Attach = Callable[[Result], Mapping[str, Path]]  # a result's files worth keeping with its record, by name


class Recorder(Protocol):
    """Where a search is recorded; `services.tracking.Recorder`. None of these may block or raise."""

    def trial_started(self, number: int, config: "RunConfig", params: dict[str, Any]) -> None: ...
    def trial_progress(self, number: int, step: int, metrics: Mapping[str, float]) -> None: ...
    def trial_finished(self, number: int, result: Result, attachments: Mapping[str, Path]) -> None: ...
    def trial_lost(self, number: int, reason: str) -> None: ...
    def finish(self) -> None: ...


@dataclass(frozen=True)
class Budget:
    """When to stop asking. Gang-seconds are committed spend: what runs, and the finalists to come, count at
    an upper estimate (`search_spaces.study.most_gang_seconds`)."""

    trials: int
    max_concurrent: int
    gang_seconds: float | None = None


class Results:
    """`<store>/trials/<round>/<number>.json`: every finished trial's result, whole or not at all.

    In the store itself, wherever that is: a rename publishes a local file, and an object store shows an
    upload only once it is complete.
    """

    def __init__(self, store: Store, round_name: str) -> None:
        self.store = store
        self.home = str(PurePosixPath(store.base, "trials", round_name))

    def write(self, number: int, result: Result) -> None:
        name = f"{number:05d}.json"
        if self.store.local:
            result.write(Path(self.home, name))
            return
        with self.store.workspace() as work:
            result.write(Path(work, name))
            self.store.fs.makedirs(self.home, exist_ok=True)
            self.store.fs.put_file(f"{work}/{name}", f"{self.home}/{name}")

    def all(self) -> dict[int, Result]:
        """{number: result}.

        Raises:
            StoreError: if a file is damaged.
        """
        fs = self.store.fs
        names = [str(name) for name in fs.ls(self.home, detail=False)] if fs.exists(self.home) else []
        return {
            int(PurePosixPath(name).stem): self._read(name)
            for name in sorted(names)
            if name.endswith(".json")
        }

    def _read(self, name: str) -> Result:
        if self.store.local:
            return Result.read(Path(name))
        with self.store.workspace() as work:
            self.store.fs.get_file(name, f"{work}/result.json")
            return Result.read(Path(work, "result.json"))


class Books:
    """One driver's books over a study."""

    def __init__(
        self, study: Study, results: Results, recorder: Recorder, say: Say, budget: Budget, attach: Attach
    ) -> None:
        self.study, self.results, self.recorder, self.say, self.budget = study, results, recorder, say, budget
        self.attach = attach
        self.live: dict[int, Proposal] = {}
        known = study.digests()  # files of a study that was deleted since are not this study's
        self.finished = {n: r for n, r in results.all().items() if known.get(n) == r.config_digest}
        self.stopped_by: Literal["trials", "budget"] | None = None

    def open(self, store: str) -> None:
        """Settle what dead drivers left: tell what was finished, then give up on what never will be.

        Validated results are recorded once more: nothing in the study says whether the recorder had heard
        of them, and recording twice comes to the same as recording once.
        """
        orphans = self.study.orphans
        for number, result in self.finished.items():
            if number in orphans or result.validation_bpb is not None:
                self._record(number, result)
            if number in orphans:
                self.study.tell(number, result)
        hopeless, why = self.study.hopeless, "its driver died too often"
        for number in hopeless:
            self.recorder.trial_lost(number, why)
            self.study.abandon(number, why)
        self.say(SearchStarted(self.study.round, store, self.budget.trials, len(self.finished),
                               self.study.orphans, self.budget.gang_seconds))  # fmt: skip
        for number in hopeless:
            self.say(TrialLost(number, why, again=False))

    def next(self) -> Assignment | Literal["wait", "over"]:
        """The next trial to run; "wait" while something running may still change the answer."""
        if len(self.live) >= self.budget.max_concurrent:
            return "wait"
        if self.exhausted():
            return "wait" if self.live else "over"
        return self._assign(self.study.ask())

    def exhausted(self) -> bool:
        """Whether no further trial may be handed out as things stand; notes which limit it was."""
        if not self.study.orphans and self.study.issued >= self.budget.trials:
            self.stopped_by = "trials"
        elif not self._affordable():
            self.stopped_by = "budget"
        else:
            self.stopped_by = None
        return self.stopped_by is not None

    def heard(self, number: int, said: list[Said]) -> None:
        """A running trial's reports."""
        for step, metrics in said:
            if GATE_BPB in metrics:
                self.study.passed_gate(number, metrics[GATE_BPB])
            self.recorder.trial_progress(number, step, metrics)
            self.say(TrialProgress(number, step, metrics))

    def ended(self, number: int, verdict: Verdict, gang_seconds: float) -> None:
        """A trial's verdict; a rank's death counts as losing the gang."""
        if verdict.kind == "death":
            self.lost(number, verdict.why)
            return
        proposal = self.live.pop(number)
        result = verdict.result or failed(proposal, verdict.why)
        self.study.spent(number, gang_seconds)
        self._settle(number, result)
        best = self.best()
        self.say(TrialFinished(number, result, best, self.finished[best].bpb if best is not None else None))

    def lost(self, number: int, reason: str) -> None:
        """The gang, or the actor that watched it, is gone without a verdict."""
        proposal = self.live.pop(number)
        again = self.study.again(number)
        self.recorder.trial_lost(number, reason)
        self.say(TrialLost(number, reason, again))
        if not again:
            self._settle(number, failed(proposal, reason))

    def amend(self, number: int, result: Result) -> None:
        """A finished trial with more measured: its validation score and certificate."""
        self._keep(number, result)

    def best(self) -> int | None:
        """The number of the feasible trial that leads."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[int]:
        """Feasible trials by their deployed tuple on the select split, as on the board; ties by number."""
        feasible = [n for n, result in self.finished.items() if result.status == "ok"]
        return sorted(feasible, key=lambda n: (*_merit(self.finished[n].tuple), n))

    def unscored(self) -> list[int]:
        """The leading trials, as many as there are finalists, that have no validation score yet."""
        leading = self.ranked()[: self.study.round.finalists]
        return [number for number in leading if self.finished[number].validation_bpb is None]

    def _assign(self, proposal: Proposal) -> Assignment:
        self.live[proposal.number] = proposal
        self.recorder.trial_started(proposal.number, proposal.config, proposal.params)
        self.say(TrialStarted(proposal.number, proposal.config.label, proposal.attempt))
        gate = self.study.round.gate
        limit = GateLimit(gate.at_fraction, self.study.gate_limit()) if gate else None
        return Assignment(proposal.number, proposal.config, limit)

    def _affordable(self) -> bool:
        if self.budget.gang_seconds is None:
            return True
        return self.study.committed() + self._next_charge() <= self.budget.gang_seconds

    def _next_charge(self) -> float:
        """What one more trial may take, and the scoring of all that could then be finalists and are not scored."""
        round_ = self.study.round
        to_score = min(round_.finalists, len(self.unscored()) + len(self.live) + 1)
        return most_gang_seconds(round_.rules, self.study.trials) + to_score * most_scoring_seconds(
            round_.rules
        )

    def _settle(self, number: int, result: Result) -> None:
        self._keep(number, result)
        self.study.tell(number, result)

    def _keep(self, number: int, result: Result) -> None:
        self.results.write(number, result)
        self.finished[number] = result
        self._record(number, result)

    def _record(self, number: int, result: Result) -> None:
        self.recorder.trial_finished(number, result, self.attach(result))


def _merit(deployed: DeployedTuple) -> tuple[float, ...]:
    """What the board orders feasible trials by; unmeasured comes last."""
    values = (deployed.bpb, deployed.artifact_bytes, deployed.eval_seconds)
    return tuple(math.inf if value is None else value for value in values)


def failed(proposal: Proposal, error: str) -> Result:
    """The result of a trial that a fault ended: recorded as such, with its last lines."""
    config = proposal.config
    return Result(name=config.label, config=config.plain(), config_digest=config.digest, seed=config.seed,
                  status="failed", tuple=DeployedTuple(), error=error)  # fmt: skip
