"""Stochastic weight averaging: the plain mean of weights taken at intervals late in the run (PR 180, 198).

Once the schedule's multiplier is below `below_scale`, the weights after a step are taken in whenever
`every_fraction` of the run has passed since the last were. What is collected is applied: two stacks (PR 549,
1019) collected and then shipped their EMA. EMA alone was better by 0.003 (PR 375); with both, the optimizer's
`blend` says how much of which. A run too short for its schedule to come below the limit ends with its last
weights, the mean of one.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pgolf.optim.ema import in_full
from pgolf.section import Section

SLACK = 1e-9  # of the run: fractions of it are sums of floats


class Swa(Section):
    below_scale: float = Field(0.5, gt=0, le=1)  # of the schedule's peak; 0.2 is "tight"
    every_fraction: float = Field(0.04, gt=0, le=1)  # of the run


class SwaState:
    """The running mean of a list of parameters."""

    MUTABLE: ClassVar[tuple[str, ...]] = ("mean", "count", "taken_at")

    def __init__(self, section: Swa, params: list[Tensor]) -> None:
        self.section, self.params = section, params
        self.mean = [torch.zeros_like(w) for w in in_full(params)]
        self.count = 0
        self.taken_at = -math.inf

    @torch.no_grad()
    def update(self, progress: float, schedule_scale: float) -> None:
        """Take in the parameters after a step that began at `progress`, if they are due."""
        due = progress - self.taken_at >= self.section.every_fraction - SLACK
        if due and schedule_scale < self.section.below_scale:
            self.count, self.taken_at = self.count + 1, progress
            torch._foreach_lerp_(self.mean, in_full(self.params), 1 / self.count)

    @torch.no_grad()
    def average(self) -> list[Tensor]:
        """The mean so far; while nothing was taken in, the parameters."""
        return [m.clone() for m in self.mean] if self.count else in_full(self.params)
