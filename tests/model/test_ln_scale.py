"""LN scale: one constant a block, and where it enters."""

import pytest
import torch

from pgolf.model.ln_scale import LnScale
from tests.nets import network, small, stream


def test_the_factor_falls_as_one_over_the_square_root_of_the_depth():
    assert [LnScale().factor(layer) for layer in (0, 3, 8)] == pytest.approx([1.0, 0.5, 1 / 3])


def test_every_block_gets_its_own_factor_or_none():
    assert [b.norm_scale for b in network(small(ln_scale=LnScale())).blocks] == [1.0, 2**-0.5, 3**-0.5]
    assert [b.norm_scale for b in network(small()).blocks] == [1.0, 1.0, 1.0]


def test_it_changes_what_the_network_says():
    tokens = stream(0, 8, 1)
    with torch.no_grad():
        on, off = (network(small(ln_scale=s))(tokens, tokens == 1) for s in (LnScale(), None))
    assert not torch.allclose(on, off)
