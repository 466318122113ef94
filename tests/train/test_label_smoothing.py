"""Label smoothing: the cross-entropy with a target that is a little of everything."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from pgolf.train.label_smoothing import LabelSmoothing


def test_worked_example():
    """Two tokens of equal logits: every -log p is log 2, whatever epsilon is."""
    two = torch.tensor([2.0]).log()
    got = LabelSmoothing(epsilon=0.3).smoothed(two, two, torch.zeros(1))
    assert got.item() == pytest.approx(two.item())


@given(seed=st.integers(0, 2**31 - 1), epsilon=st.floats(0.001, 0.9))
def test_it_is_torchs_own(seed, epsilon):
    generator = torch.Generator().manual_seed(seed)
    z, targets = torch.randn(9, 7, generator=generator), torch.randint(0, 7, (9,), generator=generator)
    lse = torch.logsumexp(z, dim=1)
    nats = lse - z.gather(1, targets.unsqueeze(1)).squeeze(1)
    got = LabelSmoothing(epsilon=epsilon).smoothed(nats, lse, z.mean(dim=1))
    assert torch.allclose(
        got, F.cross_entropy(z, targets, reduction="none", label_smoothing=epsilon), atol=1e-5
    )
