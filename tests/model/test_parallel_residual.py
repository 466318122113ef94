"""The parallel residual: both branches read the same stream, from a layer on."""

import pytest
import torch
from pydantic import ValidationError

from pgolf.kernels.attention import prepare
from pgolf.model.parallel_residual import ParallelResidual
from pgolf.model.reads import Reads
from pgolf.model.recurrence import Recurrence
from tests.conformance.in_network import InNetworkContract
from tests.nets import network, small


class TestParallelResidual(InNetworkContract):
    def on(self):
        return small(parallel=ParallelResidual(from_layer=2))

    def off(self):
        return small()


def test_a_parallel_block_is_its_equation():
    built = network(small(layers=4, parallel=ParallelResidual(from_layer=2)))
    assert [b.parallel for b in built.blocks] == [False, False, True, True]
    x = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
    reads = Reads(x.sin(), prepare(torch.tensor([[True, False, False, True, False, False]])))
    with torch.no_grad():
        for block in built.blocks:
            u = block.residual.read(x, reads.x0)
            z = u + block.attend(u, reads)
            expected = z + block.transform(u if block.parallel else z)
            assert torch.equal(block(x, reads), expected)


def test_it_begins_after_the_band_and_within_the_model():
    band = Recurrence(first=1, last=2, passes=2)
    assert small(layers=4, recurrence=band, parallel=ParallelResidual(from_layer=3))
    for layer in (2, 4):
        with pytest.raises(ValidationError, match="after the recurrent band"):
            small(layers=4, recurrence=band, parallel=ParallelResidual(from_layer=layer))
