"""The bias-free matrix: its initialization and its dtype policy."""

import pytest
import torch

from pgolf.model.linear import Linear
from pgolf.model.roles import Role, roles_of
from tests.conformance.technique import TechniqueContract


class TestLinear(TechniqueContract):
    def build(self):
        return Linear(self.width, 5, Role.MLP)


@pytest.mark.parametrize(("inputs", "outputs"), [(4, 9), (9, 4), (6, 6)])
def test_rows_or_columns_are_orthonormal_at_the_start(inputs, outputs):
    module = Linear(inputs, outputs, Role.ATTENTION)
    module.reset(torch.Generator().manual_seed(0))
    w = module.weight.detach()
    gram = w @ w.T if outputs <= inputs else w.T @ w
    assert torch.allclose(gram, torch.eye(min(inputs, outputs)), atol=1e-5)


def test_an_output_projection_begins_at_zero():
    module = Linear(3, 4, Role.MLP, zero=True)
    module.reset(torch.Generator())
    assert not module.weight.any()


def test_the_master_stays_float32_whatever_the_activations_are():
    module = Linear(3, 4, Role.MLP)
    module.reset(torch.Generator().manual_seed(0))
    assert module(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert module.weight.dtype == torch.float32
    assert roles_of(module) == {"weight": Role.MLP}
