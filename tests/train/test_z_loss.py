"""z-loss: a penalty on the logarithm of the normalizer."""

import torch

from pgolf.train.z_loss import ZLoss


def test_worked_example():
    got = ZLoss(coefficient=0.5).penalty(torch.tensor([0.0, 2.0, -3.0]))
    assert got.tolist() == [0.0, 2.0, 4.5]


def test_it_pulls_the_normalizer_towards_one():
    z = torch.tensor([[3.0, 1.0], [-5.0, -4.0]], requires_grad=True)
    ZLoss().penalty(torch.logsumexp(z, dim=1)).sum().backward()
    assert (z.grad[0] > 0).all(), "a normalizer above 1: logits are pushed down"
    assert (z.grad[1] < 0).all()
