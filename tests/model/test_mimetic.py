"""Mimetic start: head by head by its definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.model.attention import Attention
from pgolf.model.mimetic import Mimetic
from tests.nets import VOCAB, small


@settings(max_examples=15, deadline=None)
@given(kv_heads=st.sampled_from([1, 2, 4]), strength=st.floats(0.01, 0.5), seed=st.integers(0, 2**31 - 1))
def test_a_heads_output_is_its_groups_value_transposed_and_turned(kv_heads, strength, seed):
    config = small(attention=Attention(heads=4, kv_heads=kv_heads), output_init=Mimetic(strength=strength))
    for block in config.build(VOCAB).reset(seed).blocks:
        o, v = block.attention.o.weight.detach(), block.attention.v.weight.detach()
        for head in range(4):
            kv = head * kv_heads // 4
            for channel in range(4):
                assert torch.allclose(o[:, 4 * head + channel], -strength * v[4 * kv + channel])
        assert not block.mlp.down.weight.any()


def test_a_head_takes_back_a_share_of_what_lies_in_its_values_rows():
    """O_h V_h = -strength times the projection on the rows of V_h, which are orthonormal: as many eigenvalues of
    -strength as the head has dimensions, and no other."""
    [block] = small(layers=1, output_init=Mimetic(strength=0.05)).build(VOCAB).reset(seed=1).blocks
    o, v = block.attention.o.weight.detach(), block.attention.v.weight.detach()
    product = o[:, 4:8] @ v[0:4]  # head 1 shares the values of group 0
    eigenvalues = torch.linalg.eigvalsh(product)
    assert torch.allclose(eigenvalues, torch.tensor([-0.05] * 4 + [0.0] * 12), atol=1e-6)
    assert float(product.trace()) == pytest.approx(-0.2, abs=1e-6)


def test_it_follows_the_values_of_the_same_reset():
    built = small(output_init=Mimetic()).build(VOCAB)
    for seed in (1, 2):
        attention = built.reset(seed).blocks[1].attention
        assert torch.allclose(attention.o.weight[:, :4], -0.05 * attention.v.weight[:4].T)
