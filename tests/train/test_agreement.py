"""What ranks agree on: the mean loss, and of progress and stop what rank 0 says."""

import math

import pytest
import torch

from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.runtime import Runtime
from pgolf.train.agreement import Agreed, Agreement

GATE = Infeasible(reason="gate", measured=2.0, limit=1.0)


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("stop", [False, True])
def test_the_mean_of_what_rides_is_the_mean_loss_and_rank_0s_word(world, stop):
    """Clocks differ, and other ranks' ideas of stopping count for nothing."""
    agreements = [Agreement(Runtime(rank=r, world_size=world)) for r in range(world)]
    losses = [1.0 + r for r in range(world)]
    rides = [
        a.ride(
            torch.tensor(losses[r], dtype=torch.float64),
            ahead=0.3 + 0.1 * r,
            stop=stop if r == 0 else not stop,
        )
        for r, a in enumerate(agreements)
    ]
    mean = torch.stack(rides).mean(dim=0)
    for agreement in agreements:
        nats, ahead, told = agreement.read(mean.clone())
        assert nats == pytest.approx(sum(losses) / world)
        assert ahead == pytest.approx(0.3, rel=1e-6)
        assert told is stop


def test_a_rank_whose_loss_is_no_number_is_heard_by_all():
    agreements = [Agreement(Runtime(rank=r, world_size=2)) for r in range(2)]
    rides = [
        a.ride(torch.tensor(loss), 0.5, False) for a, loss in zip(agreements, (1.0, math.nan), strict=True)
    ]
    assert all(math.isnan(a.read(torch.stack(rides).mean(dim=0)).nats) for a in agreements)


def test_one_rank_sends_nothing_and_keeps_every_digit():
    agreement = Agreement(Runtime())
    nats = torch.tensor(1.2345678901234567, dtype=torch.float64)
    assert agreement.ride(nats, 1 / 3, False) is None
    assert agreement.read(None) == Agreed(1.2345678901234567, 1 / 3, False)


def test_a_stop_is_raised_where_ranks_meet():
    with pytest.raises(InfeasibleTrial) as stopped:
        Agreement(Runtime()).conclude(GATE)
    assert stopped.value.outcome == GATE
    Agreement(Runtime()).conclude(None)
