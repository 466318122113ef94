"""Depth recurrence: a band of blocks is executed several times with the same weights.

    order = 0 .. first-1,  (first .. last) x passes,  last+1 .. L-1

Further passes switch on during training, at a fraction of the run, and stay on; evaluation always has all of
them. Late is better than early: the plain network trains faster, and takes the passes well (PR 1204, 1394,
1493: layers 3 to 5, three passes, from 0.35). `stagger_fraction` switches them on one after the other
(PR 1412). A universal transformer is the case of one stored block that is the whole band. `carry` lets later
passes take in what earlier ones said.
"""

from typing import Annotated

from pydantic import Field, model_validator

from pgolf.model.cross_carry import CrossCarry
from pgolf.model.recur_alpha import RecurAlpha
from pgolf.section import RuleBroken, Section

Carry = Annotated[CrossCarry | RecurAlpha, Field(discriminator="kind")]


class Recurrence(Section):
    first: int = Field(3, ge=0)  # first block of the band
    last: int = Field(5, ge=0)  # last block of the band, itself included
    passes: int = Field(3, ge=2, le=64)  # executions of the band when all are on
    from_fraction: float = Field(
        0.35, ge=0, lt=1
    )  # of the run, where further passes begin; 0: from the start
    stagger_fraction: float = Field(0.0, ge=0, lt=1)  # of the run, between one further pass and the next
    carry: Carry | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "Recurrence":
        if self.last < self.first:
            raise RuleBroken("recurrence.first is at most recurrence.last",
                             f"first={self.first}, last={self.last}", f"last={self.first}")  # fmt: skip
        if (end := self.switches()[-1]) >= 1:
            raise RuleBroken("every pass of a recurrence is on before the run ends",
                             f"the last would begin at {end:g} of the run", "a smaller stagger_fraction")  # fmt: skip
        if self.carry and self.carry.layers not in (None, size := self.last - self.first + 1):
            raise RuleBroken("recurrence.carry is written for as many layers as the band has",
                             f"{self.carry.layers} of carry, {size} of the band", f"tables of {size}")  # fmt: skip
        return self

    def switches(self) -> tuple[float, ...]:
        """The run fractions at which the number of passes grows, in order, without repeats."""
        at = (self.from_fraction + self.stagger_fraction * i for i in range(self.passes - 1))
        return tuple(dict.fromkeys(at))

    def passes_at(self, progress: float) -> int:
        """Executions of the band at a fraction of the run."""
        at = [self.from_fraction + self.stagger_fraction * i for i in range(self.passes - 1)]
        return 1 + sum(progress >= f for f in at)

    def order(self, layers: int, passes: int) -> list[int]:
        """Indices of the blocks in the order of their execution."""
        band = list(range(self.first, self.last + 1))
        return [*range(self.first), *band * passes, *range(self.last + 1, layers)]
