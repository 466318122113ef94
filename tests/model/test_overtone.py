"""Overtone: the spectrum by its definition, directions and the largest value untouched."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.model.embedding import Embedding
from pgolf.model.overtone import Overtone
from tests.conformance.technique import TechniqueContract
from tests.nets import small

SEEDS = st.integers(0, 2**31 - 1)


class TestOvertone(TechniqueContract):
    """The table that it shaped, as the output matrix."""

    def build(self):
        return Embedding(overtone=Overtone()).build(24, self.width)

    def apply(self, module, x, starts):
        return module.logits(x)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(2, 20), cols=st.integers(2, 12), power=st.sampled_from([0.25, 0.5, 1.0]), seed=SEEDS)
def test_singular_values_fall_as_the_power_says(rows, cols, power, seed):
    drawn = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shaped = drawn.clone()
    Overtone(power=power).shape(shaped)
    s = torch.linalg.svdvals(shaped)
    k = torch.arange(1, len(s) + 1, dtype=s.dtype)
    assert torch.allclose(s, torch.linalg.svdvals(drawn)[0] * k**-power, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(2, 20), cols=st.integers(2, 12), seed=SEEDS)
def test_directions_stay(rows, cols, seed):
    """In the drawn table's own bases the shaped one is diagonal, and positive."""
    drawn = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shaped = drawn.clone()
    Overtone().shape(shaped)
    u, _, vt = torch.linalg.svd(drawn, full_matrices=False)
    inside = u.T @ shaped @ vt.T
    assert torch.allclose(inside, inside.diagonal().diag(), atol=1e-9)
    assert (inside.diagonal() > 0).all()


def test_a_network_with_it_differs_in_its_table_alone():
    with_, without = (
        small(embedding=Embedding(overtone=o)).build(32).reset(seed=3).state_dict()
        for o in (Overtone(), None)
    )
    assert [n for n in with_ if not torch.equal(with_[n], without[n])] == ["embedding.weight"]
    shaped, drawn = (torch.linalg.svdvals(w["embedding.weight"]) for w in (with_, without))
    assert torch.allclose(shaped, drawn[0] * torch.arange(1, 17) ** -0.5, rtol=1e-4)
