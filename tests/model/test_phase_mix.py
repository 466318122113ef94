"""The residual mix's start by depth."""

import math

import pytest
import torch
from pydantic import ValidationError

from pgolf.model.layer_sharing import LayerSharing
from pgolf.model.phase_mix import PhaseMix
from pgolf.model.residual import Residual
from tests.nets import VOCAB, small, stream


def test_worked_example():
    """Ten layers: 0.18 and 0.82 in the first, the reverse in the last."""
    first, last = PhaseMix().start(0, 10), PhaseMix().start(9, 10)
    assert first == pytest.approx((0.1824, 0.8176), abs=1e-4)
    assert last == pytest.approx((0.8176, 0.1824), abs=1e-4)
    assert PhaseMix(slope=2.0).start(1, 5)[0] == pytest.approx(1 / (1 + math.exp(2 * 0.25)))
    assert PhaseMix().start(0, 1) == (0.5, 0.5)


def test_blocks_begin_there_and_only_their_mix_does():
    on, off = (
        small(layers=5, residual=Residual(phase=p)).build(VOCAB).reset(seed=0) for p in (PhaseMix(), None)
    )
    for layer, block in enumerate(on.blocks):
        m0, m1 = PhaseMix().start(layer, 5)
        assert torch.allclose(block.residual.mix[0], torch.tensor(m0))
        assert torch.allclose(block.residual.mix[1], torch.tensor(m1))
    other = off.state_dict()
    changed = [n for n, w in on.state_dict().items() if not torch.equal(w, other[n])]
    assert changed == [f"blocks.{layer}.residual.mix" for layer in range(5)]


def test_shared_blocks_go_by_their_own_number():
    config = small(layers=6, residual=Residual(phase=PhaseMix()), sharing=LayerSharing(stored=3))
    mixes = [float(b.residual.mix[0, 0].detach()) for b in config.build(VOCAB).reset(seed=0).blocks]
    assert mixes == pytest.approx([PhaseMix().start(n, 3)[0] for n in range(3)])


def test_it_changes_what_a_fresh_network_learns_from():
    """With silent branches the stream is the embedding times a product of mixes, which the norm forgets; with
    a U-Net the gradient is another."""
    tokens, grads = stream(0, 8, 1), []
    for phase in (PhaseMix(), None):
        built = small(residual=Residual(phase=phase)).build(VOCAB).reset(seed=0)
        built(tokens, tokens == 1).square().mean().backward()
        grads.append(built.blocks[0].attention.o.weight.grad)
    assert not torch.allclose(*grads, rtol=1e-3, atol=0)


def test_without_a_mix_there_is_nothing_to_begin():
    with pytest.raises(ValidationError, match="how the mix begins"):
        Residual(mix=False, phase=PhaseMix())
