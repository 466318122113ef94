"""What a check came to: a rule holds, is broken, or does not apply, with the numbers that say so."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """One rule's verdict on one subject."""

    rule: str  # L1 .. L21, and X1 .. for what no rule of the list covers
    name: str
    holds: bool | None  # None: it does not apply, or what it would need is not there
    evidence: str  # one sentence, with numbers
    remedy: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def convicts(self) -> bool:
        return self.holds is False

    def plain(self) -> dict[str, Any]:
        """Plain JSON values; what is no number is said as text."""
        numbers = {k: v if math.isfinite(v) else str(v) for k, v in self.measured.items()}
        said = {"name": self.name, "holds": self.holds, "evidence": self.evidence, "measured": numbers}
        return {**said, "remedy": self.remedy} if self.convicts else said


@dataclass(frozen=True)
class Rule:
    """A rule's name, and the way out for who broke it."""

    rule: str
    name: str
    remedy: str

    def lacks(self, need: str, **measured: float) -> Verdict:
        """It cannot be judged: what it would need."""
        return Verdict(self.rule, self.name, None, need, measured=measured)

    def judged(self, holds: bool, evidence: str, **measured: float) -> Verdict:
        return Verdict(self.rule, self.name, holds, evidence, "" if holds else self.remedy, measured)


def convicted(verdicts: list[Verdict]) -> bool:
    """Whether any rule is broken."""
    return any(v.convicts for v in verdicts)
