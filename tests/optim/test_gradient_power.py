"""Gradient power, elementwise."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.optim.gradient_power import GradientPower


def test_worked_example():
    g = torch.tensor([[[4.0, -9.0, 0.0]]])
    assert torch.allclose(GradientPower(exponent=0.5).raised(g), torch.tensor([[[2.0, -3.0, 0.0]]]))


def test_one_is_the_gradient():
    g = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(GradientPower(exponent=1.0).raised(g), g)


def test_zero_would_be_the_sign_and_is_refused():
    with pytest.raises(ValidationError, match="greater than 0"):
        GradientPower(exponent=0.0)
