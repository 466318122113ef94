"""The average of the weights against the sum it stands for."""

import math

import pytest
import torch

from pgolf.optim.ema import Ema, EmaState


def run(values: list[float], made: list[float], window: float) -> float:
    p = torch.zeros(1)
    state = EmaState(Ema(window_fraction=window), [p])
    for value, df in zip(values, made, strict=True):
        p.fill_(value)
        state.update(df)
    state.swap_in()
    return float(p)


def test_one_step_averages_to_that_step():
    """Bias-corrected: the initial weights are not in it."""
    assert run([5.0], [0.001], window=0.5) == pytest.approx(5.0)


def test_it_is_the_explicit_weighted_sum():
    """A value taken in at progress f weighs (1 - e^(-df/window)) e^(-(end - f)/window)."""
    values, made, window = [1.0, -2.0, 4.0, 3.0], [0.1, 0.2, 0.05, 0.3], 0.25
    weights = []
    for i, df in enumerate(made):
        weights.append((1 - math.exp(-df / window)) * math.exp(-sum(made[i + 1 :]) / window))
    expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert run(values, made, window) == pytest.approx(expected, rel=1e-5)


def test_the_window_is_a_fraction_of_the_run_at_any_number_of_steps():
    """A ramp is averaged to (nearly) the same value in 100 and in 1000 steps."""
    coarse, fine = (run([i / n for i in range(1, n + 1)], [1 / n] * n, window=0.1) for n in (100, 1000))
    assert coarse == pytest.approx(fine, abs=0.01)
    assert fine == pytest.approx(0.9, abs=0.01)


def test_before_the_first_step_there_is_nothing_to_swap_in():
    p = torch.full((2,), 3.0)
    EmaState(Ema(), [p]).swap_in()
    assert p.tolist() == [3.0, 3.0]
