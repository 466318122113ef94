"""The learning-rate multiplier as a function of progress f in [0, 1]: warmup, plateau, warmdown.

    f < warmup:        f / warmup
    f >= 1 - warmdown: max(fall(x), min_lr),   x = (f - (1 - warmdown)) / warmdown
    otherwise:         1

    fall(x) = 1 - x (linear, the records');  1 - sqrt(x), which spends less of the run at high rates;
              (1 + cos(pi x)) / 2, which spends more at both ends

Everything is a fraction of the run, so a schedule transfers between step and wall-clock budgets and between
fidelities; one counted in steps decays from the first step on slow hardware (+0.142 BPB was seen). The floor
cuts every form off. It needs averaging behind it: the average does the last part of the annealing.
"""

import math
from typing import Literal

from pydantic import Field

from pgolf.section import Section

LONE_FLOOR = 0.05  # the highest floor that stands without averaging


class Schedule(Section):
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    warmdown_fraction: float = Field(0.667, ge=0, le=1)
    warmdown_form: Literal["one_minus_sqrt", "cosine"] | None = None  # None: linear
    min_lr: float = Field(0.0, ge=0, le=1)  # floor, as a fraction of the peak

    def scale(self, progress: float) -> float:
        """Multiplier of every learning rate at progress f."""
        up = min(1.0, progress / self.warmup_fraction) if self.warmup_fraction else 1.0
        return min(up, max(self._down(progress), self.min_lr))

    def _down(self, progress: float) -> float:
        left = (1 - progress) / self.warmdown_fraction if self.warmdown_fraction else 1.0
        left = min(1.0, left)
        if self.warmdown_form == "one_minus_sqrt":
            return 1 - math.sqrt(1 - left)
        if self.warmdown_form == "cosine":
            return (1 + math.cos(math.pi * (1 - left))) / 2
        return left
