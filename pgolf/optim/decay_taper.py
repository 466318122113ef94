"""A taper of Muon's weight decay: a multiplier of 1 until `start_fraction`, then linear to `end` at the end.

While the rate falls, decay that stays strong pulls weights towards zero faster than gradients can hold them
(PR 1729: 1 until 0.70, then to 0.5; its effect alone was never published, and PR 1736 is without it).
"""

from pydantic import Field

from pgolf.section import Section


class DecayTaper(Section):
    start_fraction: float = Field(0.7, ge=0, lt=1)  # of the run
    end: float = Field(0.5, ge=0, le=2)  # the multiplier at the end of the run

    def multiplier(self, progress: float) -> float:
        """At progress f in [0, 1]."""
        share = max(0.0, (progress - self.start_fraction) / (1 - self.start_fraction))
        return 1 + share * (self.end - 1)
