"""How long to train: a number of steps, or seconds of the training clock.

Searches use steps: the same work on any machine, and the same bytes on the same one. Seconds are the
competition's own terms; they name the seconds kept back for calibration, which touches training data
and therefore is on the same clock.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from pgolf.runtime import Runtime, processor
from pgolf.section import RuleBroken, Section


class Steps(Section):
    kind: Literal["steps"] = "steps"
    steps: int = Field(ge=1)

    def progress(self, step: int, seconds: float) -> float:
        """Fraction of the run that is over before step number `step` (from 0)."""
        return min(step / self.steps, 1.0)


class Seconds(Section):
    kind: Literal["seconds"] = "seconds"
    seconds: float = Field(gt=0)
    reserve_seconds: float = Field(0.5, ge=0)  # kept back for calibration

    @model_validator(mode="after")
    def _leaves_time(self) -> "Seconds":
        if self.reserve_seconds >= self.seconds:
            raise RuleBroken(
                "reserve_seconds is less than seconds",
                f"reserve_seconds={self.reserve_seconds:g}, seconds={self.seconds:g}",
                "a longer budget or a smaller reserve",
            )
        return self

    def progress(self, step: int, seconds: float) -> float:
        return min(seconds / (self.seconds - self.reserve_seconds), 1.0)


class Hardware(Section):
    """What a wall-clock budget was spent on: part of such a checkpoint's identity, of no other's."""

    name: str  # of the processor or GPU
    ranks: int
    threads: int

    @staticmethod
    def of(budget: "Steps | Seconds", runtime: Runtime) -> "Hardware | None":
        """The runtime's hardware if the budget is in seconds: there, what trained is where it trained."""
        if isinstance(budget, Steps):
            return None
        name = torch.cuda.get_device_name() if runtime.device == "cuda" else processor()
        return Hardware(name=name, ranks=runtime.world_size, threads=runtime.threads)


Budget = Annotated[Steps | Seconds, Field(discriminator="kind")]
