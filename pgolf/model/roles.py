"""What a parameter is for. Optimizer groups, bit widths and packing groups dispatch on it.

A module says what its own parameters are (`ROLES`), so nothing downstream guesses from names or sizes.
"""

from enum import StrEnum

from torch import nn


class Role(StrEnum):
    EMBEDDING = "embedding"  # the tied token table
    ATTENTION = "attention"  # projection matrices of attention
    MLP = "mlp"  # projection matrices of the MLP
    CONTROL = "control"  # gains, mixes, scales: small, kept in float
    TABLE = "table"  # further tables indexed by tokens or their hashes
    PROJECTION = "projection"  # small matrices: from a table to the stream, low-rank adapters
    GATE = "gate"  # matrices that make head gates: trained with the control vectors, kept in float
    HEAD = "head"  # training-only output heads; never deployed

    @property
    def is_matrix(self) -> bool:
        """Whether the deployed form is a quantized matrix."""
        return self not in (Role.CONTROL, Role.GATE, Role.HEAD)


MATRICES = (Role.ATTENTION, Role.MLP, Role.PROJECTION)  # that Muon orthogonalizes


def roles_of(model: nn.Module) -> dict[str, Role]:
    """The role of every parameter by its full name; each parameter has exactly one."""
    roles: dict[str, Role] = {}
    for prefix, module in model.named_modules():
        declared: dict[str, Role] = getattr(module, "ROLES", {})
        own = dict(module.named_parameters(recurse=False))
        assert own.keys() <= declared.keys(), (
            f"{type(module).__name__} declares no role for {own.keys() - declared.keys()}"
        )
        for name in own:
            roles[f"{prefix}.{name}" if prefix else name] = declared[name]
    assert roles.keys() == dict(model.named_parameters()).keys(), "roles are a partition of the parameters"
    return roles
