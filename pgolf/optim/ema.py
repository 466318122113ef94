"""Exponential moving average of the weights, bias-corrected.

    shadow <- d shadow + (1 - d) p,   weight <- d weight + (1 - d)

starting from nothing and ending with shadow / weight. Either d = exp(-df / window_fraction), the window being
a fraction of the run, so that it means the same at every length; or a fixed `decay` per step, as the records
have it (0.9965). Starting from the initial weights instead leaves them in the average of a short run (17 % of
it after 500 steps): the largest known artefact of low-fidelity searches.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.section import RuleBroken, Section


class Ema(Section):
    """Exactly one of the two."""

    window_fraction: float | None = Field(None, gt=0, le=1)  # of the run
    decay: float | None = Field(None, gt=0, lt=1)  # per optimizer step

    @model_validator(mode="after")
    def _one(self) -> "Ema":
        if (self.window_fraction is None) == (self.decay is None):
            raise RuleBroken(
                "an average has either a window_fraction or a decay", self.plain(), "window_fraction: 0.06"
            )
        return self

    def decay_over(self, progress_made: float) -> float:
        """What is kept over a step that advanced the run by this much."""
        if self.decay is not None:
            return self.decay
        assert self.window_fraction is not None
        return math.exp(-progress_made / self.window_fraction)


class EmaState:
    """The running average of a list of parameters, in float32 at least."""

    MUTABLE: ClassVar[tuple[str, ...]] = ("shadow", "weight")

    def __init__(self, section: Ema, params: list[Tensor]) -> None:
        self.section, self.params = section, params
        self.shadow = [torch.zeros_like(w) for w in in_full(params)]
        self.weight = 0.0

    @torch.no_grad()
    def update(self, progress_made: float) -> None:
        """Take in the parameters after a step that advanced the run by `progress_made`."""
        decay = self.section.decay_over(progress_made)
        torch._foreach_lerp_(self.shadow, in_full(self.params), 1 - decay)
        self.weight = decay * self.weight + (1 - decay)

    @torch.no_grad()
    def average(self) -> list[Tensor]:
        """The average so far; before the first step, the parameters."""
        if self.weight == 0:
            return in_full(self.params)
        return list(torch._foreach_div(self.shadow, self.weight))


def in_full(params: list[Tensor]) -> list[Tensor]:
    """The parameters' values in a dtype that averages can be kept in."""
    return [p.detach().to(torch.promote_types(p.dtype, torch.float32)) for p in params]
