"""Which weights are taken in, and their mean."""

import pytest
import torch

from pgolf.optim.schedule import Schedule
from pgolf.optim.swa import Swa, SwaState


def run(section: Swa, schedule: Schedule, steps: int) -> tuple[float, list[int]]:
    """The weight after step k is k: the average, and the steps that were taken in."""
    p, taken = torch.zeros(1), []
    state = SwaState(section, [p])
    for k in range(steps):
        p.fill_(k)
        before = state.count
        state.update(k / steps, schedule.scale(k / steps))
        taken += [k] * (state.count - before)
    return float(state.average()[0]), taken


def test_worked_example():
    """A linear warmdown over all of it is below one half after 50 of 100 steps; then every tenth."""
    mean, taken = run(Swa(below_scale=0.5, every_fraction=0.1), Schedule(warmdown_fraction=1.0), 100)
    assert taken == [51, 61, 71, 81, 91]
    assert mean == pytest.approx(71.0)


@pytest.mark.parametrize("steps", [100, 1000])
def test_the_interval_is_a_fraction_of_the_run(steps):
    _, taken = run(Swa(below_scale=0.2, every_fraction=0.02), Schedule(warmdown_fraction=0.5), steps)
    assert len(taken) == pytest.approx(5, abs=1)
    assert min(taken) > 0.9 * steps - 1


def test_an_interval_shorter_than_a_step_takes_every_step():
    assert run(Swa(every_fraction=1e-6), Schedule(warmdown_fraction=1.0), 10)[1] == [6, 7, 8, 9]


def test_a_run_too_short_to_come_below_the_limit_ends_with_its_last_weights():
    assert run(Swa(below_scale=0.01), Schedule(warmdown_fraction=1.0), 10) == (9.0, [])


def test_the_mean_is_kept_in_float32():
    p = torch.ones(1, dtype=torch.bfloat16)
    state = SwaState(Swa(every_fraction=0.001), [p])
    for k in range(3):
        p.fill_(1 + k / 128)
        state.update(k / 10, 0.0)
    assert state.average()[0].item() == pytest.approx(1 + 1 / 128)
    assert state.average()[0].dtype == torch.float32
