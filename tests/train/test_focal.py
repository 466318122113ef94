"""Focal loss: the factor of what is known already is small."""

import math

import pytest
import torch

from pgolf.train.focal import Focal


def test_worked_example():
    """p of 1/2 and 1/4 at gamma 2: factors 1/4 and 9/16."""
    got = Focal(gamma=2.0).factor(torch.tensor([math.log(2), math.log(4)]))
    assert got.tolist() == pytest.approx([0.25, 0.5625])


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_certainty_has_a_finite_slope(gamma):
    nats = torch.tensor([0.0, -1e-8, 1e-6, 30.0], requires_grad=True)
    (nats * Focal(gamma=gamma).factor(nats)).sum().backward()
    assert torch.isfinite(nats.grad).all()
    assert nats.grad[3].item() == pytest.approx(1.0, rel=1e-5), "what is not known counts in full"


def test_the_gradient_goes_through_the_factor():
    nats = torch.tensor([0.7], requires_grad=True)
    (nats * Focal(gamma=2.0).factor(nats)).sum().backward()
    p = math.exp(-0.7)
    assert nats.grad.item() == pytest.approx((1 - p) ** 2 + 0.7 * 2 * (1 - p) * p, rel=1e-5)
