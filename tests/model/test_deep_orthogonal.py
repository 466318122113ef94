"""Small orthogonal output projections: their singular values, and that the branches speak from the start."""

import pytest
import torch

from pgolf.model.deep_orthogonal import DeepOrthogonal
from tests.nets import VOCAB, small, stream


@pytest.mark.parametrize("layers", [1, 3, 8])
def test_every_singular_value_is_one_over_the_root_of_twice_the_depth(layers):
    built = small(layers=layers, output_init=DeepOrthogonal()).build(VOCAB).reset(seed=0)
    for block in built.blocks:
        for matrix in (block.attention.o, block.mlp.down):
            s = torch.linalg.svdvals(matrix.weight.detach())
            assert torch.allclose(s, torch.full_like(s, (2 * layers) ** -0.5), atol=1e-5)
        for matrix in (block.attention.q, block.attention.k, block.attention.v, block.mlp.up):
            s = torch.linalg.svdvals(matrix.weight.detach())
            assert torch.allclose(s, torch.ones_like(s), atol=1e-5), "inputs' projections as ever"


def test_without_it_they_are_zero():
    built = small().build(VOCAB).reset(seed=0)
    assert not any(m.weight.any() for b in built.blocks for m in (b.attention.o, b.mlp.down))


def test_blocks_differ_and_the_seed_decides():
    first, again, other = (
        small(output_init=DeepOrthogonal()).build(VOCAB).reset(seed=s).state_dict() for s in (1, 1, 2)
    )
    at = "blocks.{}.attention.o.weight"
    assert torch.equal(first[at.format(0)], again[at.format(0)])
    assert not torch.equal(first[at.format(0)], other[at.format(0)])
    assert not torch.equal(first[at.format(0)], first[at.format(1)])


def test_a_fresh_network_says_something_else_with_it():
    tokens = stream(0, 8, 1)
    with torch.no_grad():
        on, off = (
            small(output_init=i).build(VOCAB).reset(seed=0)(tokens, tokens == 1)
            for i in (DeepOrthogonal(), None)
        )
    assert not torch.allclose(on, off)
