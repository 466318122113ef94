"""A grid per matrix role, and none for what is no matrix."""

import pytest

from pgolf.model.roles import Role
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.sd_clip import SdClip

GRIDS = RoleGrids(embedding=SdClip(bits=8), attention=SdClip(bits=5), mlp=SdClip(bits=4))


def test_every_matrix_role_has_its_own_grid():
    bits = {role: GRIDS.of(role).bits for role in Role if role.is_matrix}
    assert bits == {
        Role.EMBEDDING: 8, Role.TABLE: 8, Role.ATTENTION: 5, Role.PROJECTION: 5, Role.MLP: 4
    }  # fmt: skip


def test_what_is_no_matrix_has_no_grid():
    for role in Role:
        if not role.is_matrix:
            with pytest.raises(KeyError):
                GRIDS.of(role)
