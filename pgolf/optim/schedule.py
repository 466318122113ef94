"""The learning-rate multiplier as a function of progress f in [0, 1]: warmup, plateau, linear warmdown.

    f < warmup:        f / warmup
    f >= 1 - warmdown: max((1 - f) / warmdown, min_lr)
    otherwise:         1

Everything is a fraction of the run, so a schedule transfers between step and wall-clock budgets and
between fidelities. A floor (min_lr > 0) needs averaging behind it (Ema).
"""

from pydantic import Field

from pgolf.section import Section


class Schedule(Section):
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    warmdown_fraction: float = Field(0.667, ge=0, le=1)
    min_lr: float = Field(0.0, ge=0, le=1)  # floor, as a fraction of the peak

    def scale(self, progress: float) -> float:
        """Multiplier of every learning rate at progress f."""
        up = min(1.0, progress / self.warmup_fraction) if self.warmup_fraction else 1.0
        down = (1 - progress) / self.warmdown_fraction if self.warmdown_fraction else 1.0
        return min(up, max(min(1.0, down), self.min_lr))
