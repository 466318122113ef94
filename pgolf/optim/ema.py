"""Exponential moving average of the weights, bias-corrected, with its window as a fraction of the run.

    shadow <- d shadow + (1 - d) p,   weight <- d weight + (1 - d),   d = exp(-df / window)

starting from nothing and ending with shadow / weight. A decay per step would mean another window at
another length, and starting from the initial weights leaves them in the average of a short run: the
largest known artefact of low-fidelity searches.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from pgolf.section import Section


class Ema(Section):
    window_fraction: float = Field(0.06, gt=0, le=1)  # of the run


class EmaState:
    """The running average of a list of parameters, in float32."""

    def __init__(self, section: Ema, params: list[Tensor]) -> None:
        self.section, self.params = section, params
        self.shadow = [torch.zeros_like(p, dtype=torch.float32) for p in params]
        self.weight = 0.0

    @torch.no_grad()
    def update(self, progress_made: float) -> None:
        """Take in the parameters after a step that advanced the run by `progress_made`."""
        decay = math.exp(-progress_made / self.section.window_fraction)
        torch._foreach_lerp_(self.shadow, [p.float() for p in self.params], 1 - decay)
        self.weight = decay * self.weight + (1 - decay)

    @torch.no_grad()
    def swap_in(self) -> None:
        """Replace the parameters by their average."""
        if self.weight > 0:
            for p, shadow in zip(self.params, self.shadow, strict=True):
                p.copy_(shadow / self.weight)
