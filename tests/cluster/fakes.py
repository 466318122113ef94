"""Cheap trials for tests of the driver: importable by rank actors, and they leave a trace of every run."""

import os
import random
import time
from pathlib import Path

import torch
import torch.distributed as dist
from optuna.trial import BaseTrial

from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.formats.result import DeployedTuple, Result
from pgolf.rules import Gang, Rules
from pgolf.runtime import Runtime
from pgolf.section import Section, digest_of
from pgolf.stage import Store
from search_spaces.round import Gate, Round

RULES = Rules(name="fake", artifact_bytes=1000, train_seconds=5, eval_seconds=5)
FAKE_GPUS = Rules(
    name="fake_gpus", artifact_bytes=1000, train_seconds=5, eval_seconds=5,
    gang=Gang(ranks=2, gpus_per_rank=1, cpus_per_rank=0.5),
)  # fmt: skip


class FakeConfig(Section):
    name: str = "fake"
    seed: int = 0
    x: float = 0.5
    mishap: str = "none"
    rules: Rules = RULES

    @property
    def digest(self) -> str:
        return digest_of({k: v for k, v in self.plain().items() if k not in ("name", "seed")})

    @property
    def label(self) -> str:
        return f"{self.name}-{self.digest[:8]}"


def space(trial: BaseTrial) -> FakeConfig:
    return FakeConfig(x=trial.suggest_float("x", 0, 1))


def fake_round(**changes: object) -> Round:
    given: dict[str, object] = {
        "name": "fake", "space": space, "rules": RULES, "trials": 8, "max_concurrent": 2,
        "warm_starts": {"baseline": {"x": 0.9}}, "gate": Gate(at_fraction=0.3, tolerance=1.05),
    }  # fmt: skip
    return Round(**{**given, **changes})  # type: ignore[arg-type]


def trace(store: Store, line: str) -> None:
    with Path(store.directory, "trace.txt").open("a") as file:
        file.write(line + "\n")


def traced(store: Store) -> list[str]:
    file = Path(store.directory, "trace.txt")
    return file.read_text().splitlines() if file.exists() else []


def result_of(
    config: FakeConfig, bpb: float | None, broken: list[Infeasible], artifact_bytes: int = 0
) -> Result:
    size = artifact_bytes or int(1500 * config.x)
    measured = {"bpb": bpb, "artifact_bytes": size, "eval_seconds": 0.1} if bpb is not None else {}
    if bpb is not None:
        broken = broken + config.rules.broken_by(artifact_bytes=size, train_seconds=0.2, eval_seconds=0.1)
    return Result.model_validate({
        "name": config.label, "config": config.plain(), "config_digest": config.digest, "seed": config.seed,
        "status": "infeasible" if broken else "ok", "infeasible": broken,
        "tuple": DeployedTuple.model_validate(measured), "train_seconds": 0.2, **measured,
    })  # fmt: skip


def run_trial(config: FakeConfig, store: Store, runtime: Runtime, seconds: float = 0.3) -> Result | None:
    """A trial whose bpb falls with x and whose bytes rise with it; over the cap beyond x = 2/3."""
    trace(store, f"start {config.x!r} rank {runtime.rank} pid {os.getpid()}")
    bpb = 2.0 - config.x
    if runtime.world_size > 1:
        both = torch.tensor([bpb])
        dist.all_reduce(both)
        bpb = both.item() / runtime.world_size
    try:
        for step in range(4):
            time.sleep(seconds / 4)
            if runtime.leads:
                said = {"train_loss": 3.0 - step / 4, "progress": (step + 1) / 4, "val_bpb": bpb + 0.1}
                runtime.report(step, said)
    except InfeasibleTrial as stopped:
        return result_of(config, None, [stopped.outcome])
    if runtime.leads:
        runtime.report(-1, {"stage_done/train": seconds})
        trace(store, f"end {config.x!r}")
    return result_of(config, bpb, []) if runtime.leads else None


def with_mishaps(config: FakeConfig, store: Store, runtime: Runtime) -> Result | None:
    """Trials go wrong by where their x lies: a bug in the lowest quarter, a killed rank in the next."""
    if config.x < 0.25:
        raise ZeroDivisionError("a bug in the trial")
    if config.x < 0.5:
        if runtime.rank == 1:
            trace(store, f"killed {config.x!r}")
            os.kill(os.getpid(), 9)
        if runtime.world_size > 1:
            dist.all_reduce(torch.ones(1))  # waits for the peer that is gone
    return run_trial(config, store, runtime)


def validate(result: Result, store: Store, runtime: Runtime) -> Result:
    trace(store, f"validate {result.name} pid {os.getpid()}")
    assert result.bpb is not None
    return result.but(validation_bpb=result.bpb + 0.01 + random.Random(result.name).random() / 1000)


class Notes:
    """A recorder that remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []  # type: ignore[type-arg]

    def open(self, **arguments: object) -> "Notes":
        self.calls.append(("open", arguments))
        return self

    def trial_started(self, number: int, config: object, params: object) -> None:
        self.calls.append(("started", number))

    def trial_progress(self, number: int, step: int, metrics: object) -> None:
        self.calls.append(("progress", number, step, metrics))

    def trial_finished(self, number: int, result: Result, attachments: object) -> None:
        self.calls.append(("finished", number, result))

    def trial_lost(self, number: int, reason: str) -> None:
        self.calls.append(("lost", number, reason))

    def finish(self) -> None:
        self.calls.append(("finish",))
