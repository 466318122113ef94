"""The rules of play, as a profile: byte and time budgets, and the gang of ranks a trial runs on.

The competition's own profile is `PARAMETER_GOLF` (16 MB decimal with code, 600 s of training and 600 s
of evaluation on 8xH100). Other budgets, other hardware and other data are other profiles.
"""

from typing import Literal

from pydantic import Field

from pgolf.errors import Infeasible
from pgolf.section import Section

BUDGETS = ("artifact_bytes", "train_seconds", "eval_seconds")


class Gang(Section):
    """The ranks of one trial: scheduled together on one node, or not at all."""

    ranks: int = Field(1, ge=1)
    gpus_per_rank: int = Field(0, ge=0, le=1)
    cpus_per_rank: float = Field(1, gt=0)
    device: Literal["cpu", "cuda"] = "cpu"  # what a rank computes on
    threads: int = Field(1, ge=1)  # torch threads per rank: float sums depend on it
    attention: str = "auto"  # backend of attention (pgolf.kernels.attention); auto: measured on a GPU
    fused_kernels: bool = True  # on a GPU, Triton kernels in training; false: torch's own operations
    gpu: str | None = None  # the GPU that times and memory are predicted for (pgolf.estimate.GPUS)


class Rules(Section):
    """Budgets of a profile. A result is feasible when every one of them holds."""

    name: str
    artifact_bytes: int = Field(ge=0)  # cap: code and compressed weights together, decimal bytes
    train_seconds: float = Field(gt=0)  # cap: ends when training data is last touched
    eval_seconds: float = Field(gt=0)  # cap: scoring, adaptation and eval-time memory
    gang: Gang = Gang()
    usd_per_hour: float = Field(0.0, ge=0)  # of one gang; what a budget in dollars is counted by

    def broken_by(
        self, *, artifact_bytes: int | None, train_seconds: float | None, eval_seconds: float | None
    ) -> list[Infeasible]:
        """The budgets that these measurements exceed. A missing measurement breaks nothing."""
        measured = dict(zip(BUDGETS, (artifact_bytes, train_seconds, eval_seconds), strict=True))
        return [
            Infeasible(reason=name, measured=value, limit=getattr(self, name))
            for name, value in measured.items()
            if value is not None and value > getattr(self, name)
        ]


H100_GANG = Gang(ranks=8, gpus_per_rank=1, cpus_per_rank=4, device="cuda", threads=4, gpu="H100")

PARAMETER_GOLF = Rules(
    name="parameter_golf",
    artifact_bytes=16_000_000,
    train_seconds=600,
    eval_seconds=600,
    gang=H100_GANG,
    usd_per_hour=24.0,
)

# Two cores, minutes: the same game with everything scaled down. One rank of one thread per trial, so
# that two trials run side by side and a step-budgeted trial gives the same bytes every time.
LAPTOP = Rules(name="laptop", artifact_bytes=300_000, train_seconds=120, eval_seconds=60)
