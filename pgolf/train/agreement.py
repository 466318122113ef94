"""What all ranks know alike after a step: the mean loss, how far the run is, whether to stop.

Ranks that read their own clocks disagree now and then: for a step they would train two different graphs, or
one would leave while the others wait. Only rank 0's clock counts. Three numbers, [loss, progress, stop], ride
along in the all-reduce of the small gradients, so agreeing costs no collective of its own; the mean over
ranks is the mean of the losses, and of what rank 0 alone fills in (times the number of ranks) its value.

A budget in steps needs no telling: every rank counts. At one rank nothing rides.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.runtime import Runtime


class Agreed(NamedTuple):
    """After a step, on every rank."""

    nats: float  # mean loss over the global batch
    ahead: float  # progress at which the next step begins
    stop: bool  # rank 0 was told to stop


class Agreement:
    """`ride` before the optimizer's step, `read` after it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._own: _Landing | None = None
        self._said = Agreed(math.nan, 0.0, False)

    def ride(self, nats: Tensor, ahead: float, stop: bool) -> Tensor | None:
        """What to send along; `ahead` and `stop` count on rank 0 alone."""
        self._said = Agreed(math.nan, ahead, stop)
        if self.runtime.world_size == 1:
            self._own = _Landing(nats.view(1))
            return None
        led = [ahead, float(stop)] if self.runtime.leads else [0.0, 0.0]
        told = torch.tensor(led, dtype=torch.float32) * self.runtime.world_size
        return torch.cat([nats.float().view(1), told.to(nats.device, non_blocking=True)])

    def read(self, mean: Tensor | None) -> Agreed:
        """What was agreed on; waits for it. `mean` is what the optimizer's step returned."""
        if self.runtime.world_size == 1:
            assert self._own is not None, "ride comes before read"
            return self._said._replace(nats=self._own.read()[0])
        assert mean is not None, "what rides comes back"
        nats, ahead, stop = _Landing(mean).read()
        return Agreed(nats, ahead, stop > 0.5)

    def conclude(self, stopped: Infeasible | None) -> None:
        """Meet the other ranks. Raises InfeasibleTrial on all of them if rank 0 was told to stop: a rank that
        left alone would leave the others waiting for its gradients."""
        outcome = self.runtime.agree(stopped)
        if outcome is not None:
            assert isinstance(outcome, Infeasible)
            raise InfeasibleTrial(outcome)


class _Landing:
    """A few numbers on their way to the host; waits only for what was enqueued before them."""

    def __init__(self, x: Tensor) -> None:
        if not x.is_cuda:
            self._host, self._arrived = x, None
            return
        self._host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        self._host.copy_(x, non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record()

    def read(self) -> list[float]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return [float(value) for value in self._host.tolist()]
