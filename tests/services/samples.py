"""Stand-ins the services' tests share: a fake config, and results as a pipeline would give them."""

from dataclasses import dataclass, field
from typing import Any

from pgolf.errors import Infeasible
from pgolf.formats.result import DeployedTuple, Result, StageResult
from pgolf.rules import Rules
from pgolf.section import digest_of
from services.leaderboard import MEASURED, Row

SMALL = Rules(name="laptop", artifact_bytes=400_000, train_seconds=60, eval_seconds=60)


@dataclass(frozen=True)
class FakeConfig:
    """The face of `pgolf.run.RunConfig` that a recorder sees."""

    name: str = "laptop_baseline"
    seed: int = 0
    model: dict[str, Any] = field(default_factory=lambda: {"layers": 4, "width": 128})

    def plain(self) -> dict[str, Any]:
        return {"name": self.name, "seed": self.seed, "model": self.model}

    @property
    def digest(self) -> str:
        return digest_of({"model": self.model})

    @property
    def label(self) -> str:
        return f"{self.name}-{self.digest[:8]}"


def make_result(config: FakeConfig | None = None, **changes: Any) -> Result:
    """A feasible trial's result, with what a test is about changed."""
    config = config or FakeConfig()
    bpb, size, seconds = changes.pop("bpb", 2.10), changes.pop("artifact_bytes", 350_000), 12.5
    seconds = changes.pop("eval_seconds", seconds)
    reasons: list[Infeasible] = changes.pop("infeasible", [])
    values: dict[str, Any] = {
        "name": config.label,
        "config": config.plain(),
        "config_digest": config.digest,
        "seed": config.seed,
        "status": "infeasible" if reasons else "ok",
        "infeasible": reasons,
        "tuple": DeployedTuple(bpb=bpb, artifact_bytes=size, eval_seconds=seconds),
        "stages": {"train": StageResult(key="a1b2c3d4", cached=False, seconds=31.0, metrics={"steps": 300})},
        "bpb": bpb,
        "quantized_bpb": bpb,
        "prequant_bpb": None if bpb is None else bpb - 0.01,
        "artifact_bytes": size,
        "eval_seconds": seconds,
        "train_seconds": 30.0,
        "params": 812_544,
        "steps": 300,
        **changes,
    }
    return Result(**values)


def make_row(result: Result, *, number: int = 0, round_name: str = "laptop") -> Row:
    """An unranked row as the board would have it of a recorded result."""
    return Row(
        status=result.status, name=result.name, recipe=result.config["name"], round=round_name,
        number=number, config_digest=result.config_digest, seed=result.seed,
        feasible=result.status == "ok", infeasible=result.infeasible,
        **{name: getattr(result, name) for name in MEASURED},
    )  # fmt: skip


def over_bytes(size: int = 412_300) -> list[Infeasible]:
    return [Infeasible(reason="artifact_bytes", measured=size, limit=SMALL.artifact_bytes)]


def killed(measured: float = 3.41) -> list[Infeasible]:
    return [Infeasible(reason="gate", measured=measured, limit=3.20)]
