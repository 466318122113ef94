"""The one thing Ray Tune sees of a trial: a class that waits on a gang and passes its words on.

A Tune result is one JSON text, `said`: Tune flattens nested results and carries them through its own logs,
and our events have no business there. At most one result per second is made, whatever the training reports.
"""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from cluster.gang import TRAINABLE_CPUS, Gang, Job, Said, Verdict, bundles, last_lines
from cluster.gates import GateLimit
from pgolf.formats.result import Result
from pgolf.rules import Rules
from pgolf.runtime import Runtime
from pgolf.stage import Store

if TYPE_CHECKING:
    from pgolf.run import RunConfig

TrialRunner = Callable[["RunConfig", Store, Runtime], Result | None]

BATCH_SECONDS = 1.0
SAID = "said"
ASSIGNMENT = "assignment"


@dataclass(frozen=True)
class Assignment:
    """What a gang is told about its trial."""

    number: int
    config: "RunConfig"
    gate: GateLimit | None


@dataclass(frozen=True)
class Batch:
    """What one Tune result carries."""

    said: list[Said]
    verdict: Verdict | None
    gang_seconds: float

    def text(self) -> str:
        ended = None
        if self.verdict is not None:
            result = self.verdict.result
            ended = [self.verdict.kind, None if result is None else result.plain(), self.verdict.why]
        return json.dumps([self.said, ended, self.gang_seconds])

    @staticmethod
    def of(text: str) -> "Batch":
        said, ended, gang_seconds = json.loads(text)
        verdict = None
        if ended is not None:
            kind, result, why = ended
            verdict = Verdict(kind, None if result is None else Result.model_validate(result), why)
        return Batch([(step, metrics) for step, metrics in said], verdict, gang_seconds)


class GangTrainable(tune.Trainable):
    """One trial after the other on the same gang (`reuse_actors`)."""

    def setup(  # type: ignore[override]  # `with_parameters` brings the rest
        self, config: dict[str, Any], *, rules: Rules, store: Store, runner: TrialRunner, command: str
    ) -> None:
        group = ray.util.get_current_placement_group()
        assert group is not None, "Tune places a Trainable in its trial's group"
        self.gang = Gang(rules.gang, group, first_bundle=1, command=command)
        self.store, self.runner = store, runner
        self.silence_limit_seconds = silence_limit_seconds(rules)
        self._begin(config[ASSIGNMENT])

    def step(self) -> dict[str, Any]:
        """What the gang said within a second. Our own faults are verdicts too: Tune would hide their text."""
        try:
            said, verdict = self._listen()
            text = Batch(said, verdict, time.monotonic() - self._began).text()
        except Exception as fault:
            self.gang.close()
            verdict = Verdict("death" if isinstance(fault, RayActorError) else "error", why=_last_words())
            text = Batch([], verdict, time.monotonic() - self._began).text()
        return {SAID: text, "done": verdict is not None}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial. A gang that ended badly was closed then, and is started anew here."""
        self._begin(new_config[ASSIGNMENT])
        return True

    def cleanup(self) -> None:
        self.gang.close()

    def _begin(self, assignment: Assignment) -> None:
        self._began = self._heard = time.monotonic()
        self._next: Assignment | None = assignment

    def _listen(self) -> tuple[list[Said], Verdict | None]:
        if (
            self._next is not None
        ):  # here rather than in setup, so that a gang that cannot start has a verdict
            self.gang.start(trial_job(self.runner, self._next.config, self.store), self._next.gate)
            self._next = None
        said, verdict = self.gang.poll(BATCH_SECONDS)
        now = time.monotonic()
        self._heard = now if said else self._heard
        if verdict is None and now - self._heard > self.silence_limit_seconds:
            self.gang.close()
            verdict = Verdict("death", why=f"no word from the gang for {self.silence_limit_seconds:.0f} s")
        return said, verdict


def _last_words() -> str:
    return last_lines(traceback.format_exc())


def trial_job(runner: TrialRunner, config: "RunConfig", store: Store) -> Job:
    """The work of every rank of one trial."""

    def job(runtime: Runtime) -> Result | None:
        return runner(config, store, runtime)

    return job


def silence_limit_seconds(rules: Rules) -> float:
    """A gang that reports nothing for this long hangs: twice both clocks, and room for data and packing."""
    return 2 * (rules.train_seconds + rules.eval_seconds) + 600


def placement(rules: Rules) -> tune.PlacementGroupFactory:
    """The whole gang on one node, or not at all."""
    return tune.PlacementGroupFactory([{"CPU": TRAINABLE_CPUS}, *bundles(rules.gang)], strategy="STRICT_PACK")
