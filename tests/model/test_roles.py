"""Roles are a partition of a network's parameters."""

import pytest
import torch
from torch import nn

from pgolf.model.roles import Role, roles_of
from tests.nets import network


def test_every_parameter_of_a_network_has_the_role_its_module_says():
    roles = network().roles
    assert roles["embedding.weight"] is Role.EMBEDDING
    assert roles["blocks.1.attention.k.weight"] is Role.ATTENTION
    assert roles["blocks.1.mlp.down.weight"] is Role.MLP
    assert {n for n, r in roles.items() if r is Role.CONTROL} == {
        "u_net.w",
        *(f"blocks.{b}.attention.gain" for b in range(3)),
        *(f"blocks.{b}.residual.{n}" for b in range(3) for n in ("mix", "attn_scale", "mlp_scale")),
    }


def test_matrices_are_what_is_quantized():
    network_ = network()
    for name, p in network_.named_parameters():
        assert network_.roles[name].is_matrix == (p.ndim == 2 and "mix" not in name and name != "u_net.w")


def test_a_parameter_without_a_role_is_a_bug_and_says_so():
    class Forgetful(nn.Module):
        ROLES = {"a": Role.CONTROL}

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    with pytest.raises(AssertionError, match="Forgetful declares no role"):
        roles_of(Forgetful())
