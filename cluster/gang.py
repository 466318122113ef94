"""A gang: the ranks of one trial, one actor per rank, placed together on one node and kept between trials.

Ray Tune reserves the whole gang as one strictly packed placement group: bundle 0 for the Trainable, which
only waits, and one bundle per rank. The rank actors are our own, not Ray Train's: nested under Tune, Train's
worker group outlives a trial that Tune stops and the next trial waits for ever on resources that nobody
holds. Actors are kept across trials because starting one and importing torch costs more than a small trial.

A gang lies on one node by construction, so its ranks meet at a loopback address, at a fresh port per trial.
An exception on any rank, or the death of one, ends the trial and the gang: a process whose peer vanished in
the middle of a collective is not worth keeping, and the next trial gets new actors in the same bundles.
"""

import json
import os
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.gates import GatedReport, GateLimit
from pgolf import rules
from pgolf.formats.result import Result
from pgolf.runtime import Runtime, silent

Job = Callable[[Runtime], Result | None]  # rank 0 returns the result
Said = tuple[int, dict[str, float]]  # one report: step, metrics

TRAINABLE_CPUS = 0.1  # it only waits, but a bundle cannot be empty
PEERS_GRACE_SECONDS = 5.0  # for the other ranks to end, once one has
ERROR_LINES = 6
LOOPBACK_INTERFACE = "lo0" if sys.platform == "darwin" else "lo"


@dataclass(frozen=True)
class Verdict:
    """How a gang's work ended: with a result, with a rank's exception, or with a rank's death."""

    kind: Literal["result", "error", "death"]
    result: Result | None = None
    why: str = ""


class Rank:
    """The actor of one rank. `run` computes in one thread while `events` answers in another."""

    def __init__(self, rank: int, gang: rules.Gang, command: str) -> None:
        self.rank, self.gang, self.command = rank, gang, command
        self._said: deque[Said] = deque()
        self._ended = threading.Event()

    def meeting_point(self) -> str:
        """A free loopback port for this trial's process group."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"tcp://127.0.0.1:{probe.getsockname()[1]}"

    def begin(self) -> None:
        """Forget the last trial. Called before `run`, so that `events` never speaks of an old one."""
        self._said.clear()
        self._ended.clear()

    def run(self, job: Job, address: str, gate: GateLimit | None) -> tuple[str, str]:
        """('result', JSON), ('silent', '') on a rank that does not lead, or ('error', last lines)."""
        if self.gang.device == "cpu" and address.startswith("tcp://127."):
            os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK_INTERFACE
        report = GatedReport(gate, self._emit) if self.rank == 0 else silent
        gang = self.gang
        runtime = Runtime(
            gang.device,
            self.rank,
            gang.ranks,
            gang.threads,
            report,
            gang.attention,
            gang.fused_kernels,
            command=self.command,
        )
        try:
            with runtime.joined(address):
                result = job(runtime)
        except Exception:
            return "error", last_lines(traceback.format_exc())
        finally:
            self._ended.set()
        return ("silent", "") if result is None else ("result", json.dumps(result.plain()))

    def events(self, seconds: float) -> list[Said]:
        """What was reported since the last call; waits that long, or until the run has ended."""
        self._ended.wait(seconds)
        return [self._said.popleft() for _ in range(len(self._said))]

    def _emit(self, step: int, metrics: dict[str, float]) -> None:
        self._said.append((step, {name: float(value) for name, value in metrics.items()}))


class Gang:
    """The driver's side of one gang inside a placement group that someone else owns."""

    def __init__(self, gang: rules.Gang, group: PlacementGroup, first_bundle: int, command: str = "") -> None:
        self.gang, self.group, self.first_bundle, self.command = gang, group, first_bundle, command
        self.ranks: list[Any] = []
        self._work: list[Any] = []

    def start(self, job: Job, gate: GateLimit | None = None) -> None:
        """Set every rank to work; actors are started if there are none."""
        if not self.ranks:
            self.ranks = [self._actor(rank) for rank in range(self.gang.ranks)]
        ray.get([rank.begin.remote() for rank in self.ranks])
        address = ray.get(self.ranks[0].meeting_point.remote())
        self._work = [rank.run.remote(job, address, gate) for rank in self.ranks]

    def poll(self, seconds: float) -> tuple[list[Said], Verdict | None]:
        """What rank 0 said within that time, and the verdict once there is one."""
        said = self._events(seconds)
        ended = self._ended(0)
        if 0 not in ended and all(kind == "silent" for kind, _ in ended.values()):
            return said, None
        ended = self._ended(PEERS_GRACE_SECONDS)
        said += self._events(0)
        verdict = _verdict(ended)
        if len(ended) < len(self._work) or any(kind in ("error", "death") for kind, _ in ended.values()):
            self.close()
        return said, verdict

    def close(self) -> None:
        """End every rank at once. The next `start` makes new ones."""
        for rank in self.ranks:
            ray.kill(rank)
        self.ranks, self._work = [], []

    def _actor(self, rank: int) -> Any:
        place = PlacementGroupSchedulingStrategy(self.group, self.first_bundle + rank)
        return (
            ray.remote(Rank)
            .options(num_cpus=self.gang.cpus_per_rank, num_gpus=self.gang.gpus_per_rank, max_concurrency=3,
                     scheduling_strategy=place)
            .remote(rank, self.gang, self.command)
        )  # fmt: skip

    def _events(self, seconds: float) -> list[Said]:
        try:
            return list(ray.get(self.ranks[0].events.remote(seconds)))
        except RayActorError:
            return []  # the verdict speaks of it

    def _ended(self, seconds: float) -> dict[int, tuple[str, str]]:
        """{rank: how its work ended}, for those that have."""
        ready, _ = ray.wait(self._work, num_returns=len(self._work), timeout=seconds)
        return {rank: _outcome(work) for rank, work in enumerate(self._work) if work in ready}


def bundles(gang: rules.Gang) -> list[dict[str, float]]:
    """What the ranks of a gang reserve, one bundle each."""
    rank: dict[str, float] = {"CPU": gang.cpus_per_rank}
    if gang.gpus_per_rank:
        rank["GPU"] = gang.gpus_per_rank
    return [dict(rank) for _ in range(gang.ranks)]


def last_lines(text: str) -> str:
    """The end of a traceback: what a board shows of a failed trial."""
    return "\n".join(text.strip().splitlines()[-ERROR_LINES:])


def _outcome(work: Any) -> tuple[str, str]:
    try:
        kind, text = ray.get(work)
        return kind, text
    except RayActorError as death:
        return "death", " ".join(str(death).split())[:400]
    except RayTaskError as error:  # before or after the job itself, e.g. a job that cannot be unpickled
        return "error", last_lines(str(error))


def _verdict(ended: dict[int, tuple[str, str]]) -> Verdict:
    """One verdict from all ranks. A death explains the errors beside it, so it is looked for first.

    An infeasible result stands although peers failed: rank 0 may leave a collective at a gate or a limit.
    """
    leader = ended.get(0, ("", ""))
    result = Result.model_validate_json(leader[1]) if leader[0] == "result" else None
    if result is not None and result.status == "infeasible":
        return Verdict("result", result)
    for wanted in ("death", "error"):
        for rank, (kind, why) in sorted(ended.items()):
            if kind == wanted:
                return Verdict("death" if kind == "death" else "error", why=f"rank {rank}: {why}")
    if result is None:
        return Verdict("error", why="rank 0 ended without a result")
    return Verdict("result", result)
