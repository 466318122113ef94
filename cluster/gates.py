"""The kill gate, where the trial runs: a report that passes everything on and stops what is too far behind.

The limit is fixed when a trial starts, from what earlier trials measured at the same fraction of training.
A moving limit would make a trial's fate depend on the order in which its neighbours' messages arrived.
A measurement that is no number never becomes one: it ends its own trial as diverged, with a limit or
without, and is not offered to the trials that come after.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pgolf.errors import Infeasible, InfeasibleTrial

GATE_BPB = "gate_bpb"  # added to the report at which the gate was passed or missed
UNCOMPRESSED_BPB = 8.0  # of text stored as it is: the limit that a diverged trial missed where no other stood


@dataclass(frozen=True)
class GateLimit:
    """One trial's gate. Without a limit the trial is measured, and always let through."""

    at_fraction: float
    limit_bpb: float | None


class GatedReport:
    """A `Runtime.report`: emits, and raises at the gate."""

    def __init__(self, gate: GateLimit | None, emit: Callable[[int, dict[str, float]], None]) -> None:
        self.gate = gate
        self.emit = emit
        self.passed = gate is None

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Raises InfeasibleTrial at the first evaluation at or beyond the gate, if over its limit or no number."""
        said = dict(metrics)
        at_gate = not self.passed and self._reached(said)
        if at_gate and math.isfinite(said["val_bpb"]):
            said[GATE_BPB] = said["val_bpb"]
        self.emit(step, said)
        if at_gate:
            self.passed = True
            self._judge(said["val_bpb"])

    def _reached(self, said: dict[str, float]) -> bool:
        assert self.gate is not None
        return "val_bpb" in said and said.get("progress", 0.0) >= self.gate.at_fraction

    def _judge(self, bpb: float) -> None:
        assert self.gate is not None
        limit = self.gate.limit_bpb
        if not math.isfinite(bpb):
            missed = UNCOMPRESSED_BPB if limit is None else limit
            raise InfeasibleTrial(Infeasible(reason="diverged", measured=None, limit=missed))
        if limit is not None and bpb > limit:
            raise InfeasibleTrial(Infeasible(reason="gate", measured=bpb, limit=limit))
