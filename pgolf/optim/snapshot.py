"""Copies of what an optimizer changes, to run warmup steps for the compiler and then take them back.

Each state names what of it changes in MUTABLE: lists of tensors, and numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Mutable(Protocol):
    MUTABLE: ClassVar[tuple[str, ...]]


Values = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """The weights and every state, on the device they live on."""

    weights: list[Tensor]
    muon: Values
    others: list[Values]


@torch.no_grad()
def copied(state: Mutable) -> Values:
    """What the state has now, by name, in memory of its own."""
    return {name: _copy(getattr(state, name)) for name in state.MUTABLE}


@torch.no_grad()
def put_back(state: Mutable, values: Values) -> None:
    """What the state had then, in place."""
    for name, value in values.items():
        if isinstance(value, list):
            write(getattr(state, name), value)
        else:
            setattr(state, name, value)


@torch.no_grad()
def write(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for x, value in zip(into, values, strict=True):
        x.copy_(value)


def _copy(value: Any) -> Any:
    return [x.clone() for x in value] if isinstance(value, list) else value
