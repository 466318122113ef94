"""The average of the weights against the sum it stands for."""

import math

import pytest
import torch
from pydantic import ValidationError

from pgolf.optim.ema import Ema, EmaState


def run(values: list[float], made: list[float], section: Ema) -> float:
    p = torch.zeros(1)
    state = EmaState(section, [p])
    for value, df in zip(values, made, strict=True):
        p.fill_(value)
        state.update(df)
    return float(state.average()[0])


@pytest.mark.parametrize("section", [Ema(window_fraction=0.5), Ema(decay=0.9965)])
def test_one_step_averages_to_that_step(section):
    """Bias-corrected: the initial weights are not in it."""
    assert run([5.0], [0.001], section) == pytest.approx(5.0)


def test_it_is_the_explicit_weighted_sum():
    """A value taken in at progress f weighs (1 - e^(-df/window)) e^(-(end - f)/window)."""
    values, made, window = [1.0, -2.0, 4.0, 3.0], [0.1, 0.2, 0.05, 0.3], 0.25
    weights = []
    for i, df in enumerate(made):
        weights.append((1 - math.exp(-df / window)) * math.exp(-sum(made[i + 1 :]) / window))
    expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert run(values, made, Ema(window_fraction=window)) == pytest.approx(expected, rel=1e-5)


def test_a_decay_is_per_step_whatever_the_steps_made():
    """Values 1 and 2 at decay 1/2: (1/4 * 1 + 1/2 * 2) / (3/4)."""
    assert run([1.0, 2.0], [0.4, 0.001], Ema(decay=0.5)) == pytest.approx(5 / 3)


def test_a_decay_of_the_records_is_their_window():
    """0.9965 over 4900 steps is a window of 5.8 % of the run."""
    ramp, made = [i / 4900 for i in range(1, 4901)], [1 / 4900] * 4900
    expected = run(ramp, made, Ema(window_fraction=-1 / (4900 * math.log(0.9965))))
    assert run(ramp, made, Ema(decay=0.9965)) == pytest.approx(expected, rel=1e-4)
    assert -1 / (4900 * math.log(0.9965)) == pytest.approx(0.058, abs=5e-4)


def test_the_window_is_a_fraction_of_the_run_at_any_number_of_steps():
    """A ramp is averaged to (nearly) the same value in 100 and in 1000 steps."""
    section = Ema(window_fraction=0.1)
    coarse, fine = (run([i / n for i in range(1, n + 1)], [1 / n] * n, section) for n in (100, 1000))
    assert coarse == pytest.approx(fine, abs=0.01)
    assert fine == pytest.approx(0.9, abs=0.01)


def test_the_shadow_is_float32_and_no_part_of_the_parameters():
    p = torch.full((2,), 3.0, dtype=torch.bfloat16)
    state = EmaState(Ema(decay=0.9), [p])
    assert state.average()[0].tolist() == [3.0, 3.0], "before the first step there is nothing else"
    state.update(0.1)
    average = state.average()[0]
    p.zero_()
    assert average.dtype == state.shadow[0].dtype == torch.float32
    assert average.tolist() == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("given", [{}, {"window_fraction": 0.06, "decay": 0.9965}])
def test_exactly_one_of_window_and_decay(given):
    with pytest.raises(ValidationError, match="either a window_fraction or a decay"):
        Ema.model_validate(given)
