"""The softcap: bounded, odd, increasing, and the identity for small logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pgolf.model.softcap import Softcap, softcap
from tests.conformance.technique import TechniqueContract


class TestSoftcap(TechniqueContract):
    def build(self):
        return nn.Identity()

    def apply(self, module, x, starts):
        return softcap(x, Softcap(cap=3.0).cap)


def test_worked_example():
    got = softcap(torch.tensor([[0.0, 30.0, -30.0]]), 30.0)
    assert got[0].tolist() == pytest.approx([0.0, 30 * math.tanh(1), -30 * math.tanh(1)], rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(cap=st.floats(1, 100), z=st.lists(st.floats(-1000, 1000), min_size=2, max_size=8))
def test_it_is_bounded_and_keeps_order_and_sign(cap, z):
    given_ = torch.tensor(sorted(z))
    got = softcap(given_, cap)
    assert (got.abs() <= cap * (1 + 1e-6)).all()
    assert (got.diff() >= 0).all()
    assert torch.allclose(softcap(-given_, cap), -got)
    assert torch.allclose(softcap(given_ * 1e-4, cap), given_ * 1e-4, rtol=1e-2)
