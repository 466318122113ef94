"""The books of a search: who gets which trial, what was heard, what it came to. Knows nothing of Ray.

The order in which an outcome is written makes a kill at any moment harmless:

    result file -> recorder's outbox -> study

A trial counts as finished once its result file lies there whole. A driver that dies between the lines leaves
a RUNNING trial with a result; the next one tells it without running it again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cluster.events import Say, SearchStarted, TrialFinished, TrialLost, TrialProgress, TrialStarted
from cluster.gang import Said, Verdict
from cluster.gates import GATE_BPB, GateLimit
from cluster.trainable import Assignment
from pgolf.formats.result import DeployedTuple, Result
from search_spaces.study import Proposal, Study, most_gang_seconds

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
    """When to stop asking. Gang-seconds are committed spend: running trials count at their maximum."""

    trials: int
    max_concurrent: int
    gang_seconds: float | None = None


class Results:
    """`<store>/trials/<round>/<number>.json`: every finished trial's result, whole or not at all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, number: int, result: Result) -> None:
        result.write(self._file(number))

    def read(self, number: int) -> Result | None:
        file = self._file(number)
        return Result.read(file) if file.exists() else None

    def all(self) -> dict[int, Result]:
        files = sorted(self.directory.glob("*.json"))
        return {int(file.stem): Result.read(file) for file in files}

    def _file(self, number: int) -> Path:
        return self.directory / f"{number:05d}.json"


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
        """Settle what dead drivers left: tell what was finished, give up on what never will be."""
        for number in self.study.orphans:
            if (result := self.finished.get(number)) is not None:
                self._record(number, result)
                self.study.tell(number, result)
        self.say(SearchStarted(self.study.round, store, self.budget.trials, len(self.finished),
                               self.study.orphans, self.budget.gang_seconds))  # fmt: skip
        for number in self.study.abandoned:
            self._gone(number, "its driver died too often", again=False)

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
        self.results.write(number, result)
        self.finished[number] = result
        self._record(number, result)
        self.study.tell(number, result)
        best = self.best()
        self.say(TrialFinished(number, result, best, self.finished[best].bpb if best is not None else None))

    def lost(self, number: int, reason: str) -> None:
        """The gang, or the actor that watched it, is gone without a verdict."""
        proposal = self.live.pop(number)
        again = self.study.lost(number, reason)
        self._gone(number, reason, again)
        if not again:
            self.finished[number] = failed(proposal, reason)
            self.results.write(number, self.finished[number])
            self._record(number, self.finished[number])

    def amend(self, number: int, result: Result) -> None:
        """A finished trial with more measured: its validation score and certificate."""
        self.results.write(number, result)
        self.finished[number] = result
        self._record(number, result)

    def best(self) -> int | None:
        """The number of the feasible trial with the lowest bpb."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[int]:
        """Feasible trials by bpb on the select split, ties by number."""
        feasible = [(r.bpb, n) for n, r in self.finished.items() if r.status == "ok" and r.bpb is not None]
        return [number for _, number in sorted(feasible)]

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
        return self.study.committed() + most_gang_seconds(self.study.round.rules) <= self.budget.gang_seconds

    def _record(self, number: int, result: Result) -> None:
        self.recorder.trial_finished(number, result, self.attach(result))

    def _gone(self, number: int, reason: str, again: bool) -> None:
        self.recorder.trial_lost(number, reason)
        self.say(TrialLost(number, reason, again))


def failed(proposal: Proposal, error: str) -> Result:
    """The result of a trial that a fault ended: recorded as such, with its last lines."""
    config = proposal.config
    return Result(name=config.label, config=config.plain(), config_digest=config.digest, seed=config.seed,
                  status="failed", tuple=DeployedTuple(), error=error)  # fmt: skip
