"""Where a stage runs and whom it tells: device, ranks, threads, `report`. Never part of an identity."""

import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from pgolf.errors import RankFailed
from pgolf.rules import Gang

FAILED, HEARD = "pgolf/failed", "pgolf/heard"  # in a process group's store
LAST_WORD_SECONDS = 5.0

Report = Callable[[int, Mapping[str, float]], None]
T = TypeVar("T")


def silent(step: int, metrics: Mapping[str, float]) -> None:
    """The default report: nobody is listening."""


@dataclass(frozen=True)
class Runtime:
    """One rank's view of the machine.

    `report(step, metrics)` carries live curves out; it may raise `InfeasibleTrial` to stop the trial
    at a gate. It is called on rank 0 only. `notes` go into the result's provenance.
    """

    device: str = "cpu"
    rank: int = 0
    world_size: int = 1
    threads: int = 1
    report: Report = field(default=silent, compare=False)
    attention: str = "auto"  # backend asked for
    fused_kernels: bool = True  # asked for, in training on a GPU
    notes: dict[str, str] = field(default_factory=dict, compare=False)  # what was chosen on the way
    command: str = field(default_factory=lambda: shlex.join(sys.argv), compare=False)  # for the record

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @staticmethod
    def local(gang: Gang, report: Report = silent) -> "Runtime":
        """This process as its launcher describes it: torchrun's variables, or one rank alone."""
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        return Runtime(gang.device, rank, world, gang.threads, report, gang.attention, gang.fused_kernels)

    @contextmanager
    def joined(self, init_method: str = "env://") -> Iterator["Runtime"]:
        """Set the thread count and join the other ranks' process group for the block's duration."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        if self.device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        try:
            if self.world_size == 1:
                yield self
            else:
                with self._grouped(init_method):
                    yield self
        finally:
            torch.set_num_threads(before)

    @contextmanager
    def _grouped(self, init_method: str) -> Iterator[None]:
        """Belong to the process group. A rank that fails leaves its traceback in the group's store before its
        connections close, so the others, whose collectives then break off, can say why."""
        store = next(dist.rendezvous(init_method, rank=self.rank, world_size=self.world_size))[0]
        backend = "nccl" if self.device == "cuda" else "gloo"
        inner = dist.PrefixStore("default_pg", store)
        dist.init_process_group(backend, store=inner, rank=self.rank, world_size=self.world_size)
        try:
            yield
        except BaseException as error:
            broken = isinstance(error, dist.DistError) or "gloo/transport" in str(error)
            if not broken:
                word = f"rank {self.rank} failed:\n{traceback.format_exc()}"
                store.compare_set(FAILED, "", word)
            dist.destroy_process_group()
            if broken:
                raise RankFailed(_last_word(store)) from error
            if self.leads:  # it may keep the store: the others read before it goes
                _await_readers(store, self.world_size - 1)
            raise
        else:
            dist.destroy_process_group()

    def agree(self, value: object) -> object:
        """Rank 0's value, on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu") if self.device == "cpu" else None)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values


def _last_word(store: dist.Store) -> str:
    """What the rank that failed first left behind."""
    try:
        store.wait([FAILED], timedelta(seconds=LAST_WORD_SECONDS))
        word = store.get(FAILED).decode()
        store.add(HEARD, 1)
    except dist.DistError:
        return "another rank vanished without a word: it was killed, or its machine is gone"
    return word


def _await_readers(store: dist.Store, ranks: int) -> None:
    """Until the other ranks have read why, or have had the time to."""
    until = time.monotonic() + LAST_WORD_SECONDS
    with suppress(dist.DistError):
        while store.add(HEARD, 0) < ranks and time.monotonic() < until:
            time.sleep(0.05)


class Clock:
    """Wall seconds between `start` and `stop`, added up: a named clock of a stage."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def __enter__(self) -> "Clock":
        self._since = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = self.read()
        self._since = None

    def read(self) -> float:
        """Seconds so far, running or not."""
        running = time.perf_counter() - self._since if self._since is not None else 0.0
        return self.seconds + running


def forget_peak_memory(device: str) -> None:
    """Begin a new measurement, where the system can: a process serves one trial after the other."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # Linux only
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: str) -> int:
    """Most memory held since `forget_peak_memory`: on the device for CUDA, else resident."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


PACKAGES = (
    "torch",
    "numpy",
    "sentencepiece",
    "brotli",
    "constriction",
    "pydantic",
    "ray",
    "optuna",
    "mlflow",
)


def provenance(runtime: Runtime) -> dict[str, object]:
    """What produced a result: commit, dirty flag, package versions, hardware, command."""
    return {
        **source(Path(__file__).resolve().parents[1]),
        "packages": {name: found for name in PACKAGES if (found := version(name))},
        "python": platform.python_version(),
        "hardware": {
            "machine": platform.machine(),
            "processor": processor(),
            "cores": os.cpu_count() or 0,
            "device": runtime.device,
            "gpu": torch.cuda.get_device_name() if runtime.device == "cuda" else "",
        },
        "chosen": dict(runtime.notes),
        "ranks": runtime.world_size,
        "threads": runtime.threads,
        "command": runtime.command,
    }


def source(root: Path) -> dict[str, object]:
    """The commit of a checkout and whether it was changed since; a job's uploaded working tree has no
    history and carries both in a variable."""
    if carried := os.environ.get("PGOLF_SOURCE"):
        return dict(json.loads(carried))

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(git("status", "--porcelain")) if commit else None}


def version(name: str) -> str | None:
    """The installed version of a package, None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
