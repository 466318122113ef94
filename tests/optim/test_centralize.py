"""Gradient centralization: over the inputs of each output."""

import torch

from pgolf.optim.centralize import Centralize


def test_worked_example():
    g = torch.tensor([[[1.0, 3.0], [5.0, 5.0]]])
    assert torch.equal(Centralize().centered(g), torch.tensor([[[-1.0, 1.0], [0.0, 0.0]]]))


def test_an_update_that_all_inputs_share_is_gone_and_twice_is_once():
    g = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    once = Centralize().centered(g)
    assert torch.allclose(once.sum(dim=2), torch.zeros(2, 3, dtype=torch.float64))
    assert torch.allclose(Centralize().centered(g + torch.ones(2, 3, 1)), once)
    assert torch.allclose(Centralize().centered(once), once)
