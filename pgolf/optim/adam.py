"""AdamW for what Muon does not take: tables, control vectors, training-only heads.

    p <- p (1 - lr wd);   p <- p - lr m^ / (sqrt(v^) + eps)

with bias-corrected moments and the scheduled rate in both terms (decoupled decay). One rate and one decay
for each group of roles; betas are shared. Heads are trained like everything else: where they belonged to no
group they stayed zero, and a zero head sends no gradient into the trunk (the bank stacks from PR 549 on).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pgolf.model.roles import Role
from pgolf.optim.ranks import Ranks
from pgolf.optim.replicated import Replicated
from pgolf.section import Section

HEAD_LR = 0.008
TABLES = (Role.EMBEDDING, Role.TABLE)
CONTROLS = (Role.CONTROL, Role.GATE)
HEADS = (Role.HEAD,)


class Adam(Section):
    embedding_lr: float = Field(0.05, gt=0)  # of the token table and of all further tables
    control_lr: float = Field(0.04, gt=0)  # of gains, mixes, scales and gate matrices
    head_lr: float | None = Field(None, gt=0)  # of training-only heads, where there are any; None: 0.008
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    embedding_weight_decay: float = Field(0.0, ge=0)
    control_weight_decay: float = Field(0.0, ge=0)


@dataclass(frozen=True)
class Group:
    params: list[Tensor]
    lr: float
    weight_decay: float


class AdamState:
    """First and second moments of whole parameters, on every rank alike. `send`, then `step`."""

    MUTABLE: ClassVar[tuple[str, ...]] = ("first", "second", "steps")

    def __init__(self, section: Adam, params: Mapping[Role, list[Tensor]], ranks: Ranks) -> None:
        self.section = section
        s = section
        self.groups = [
            Group(_of(params, TABLES), s.embedding_lr, s.embedding_weight_decay),
            Group(_of(params, CONTROLS), s.control_lr, s.control_weight_decay),
            Group(_of(params, HEADS), s.head_lr or HEAD_LR, 0.0),
        ]
        self.params = [p for group in self.groups for p in group.params]
        self.mean = Replicated(self.params, ranks)
        self.first = [torch.zeros_like(p) for p in self.params]
        self.second = [torch.zeros_like(p) for p in self.params]
        self.steps = 0

    def send(self, ride: Tensor | None = None) -> None:
        """Start averaging every gradient, and what rides along."""
        self.mean.send(ride)

    def clipped_grads(self) -> list[Tensor]:
        """The mean gradients of all but the heads, to be scaled in place: waits for them."""
        return self.mean.received()[: len(self.params) - len(self.groups[-1].params)]

    @torch.no_grad()
    def step(self, lr_scale: float) -> None:
        """Update every parameter; the gradients have been sent."""
        s, at, received = self.section, 0, self.mean.received()
        self.steps += 1
        correct1, correct2 = 1 - s.beta1**self.steps, 1 - s.beta2**self.steps
        for group in self.groups:
            own, lr, params = slice(at, at + len(group.params)), group.lr * lr_scale, group.params
            at += len(params)
            if not params:
                continue
            grads, first, second = received[own], self.first[own], self.second[own]
            torch._foreach_lerp_(first, grads, 1 - s.beta1)
            torch._foreach_mul_(second, s.beta2)
            torch._foreach_addcmul_(second, grads, grads, 1 - s.beta2)
            scale = torch._foreach_sqrt(torch._foreach_div(second, correct2))
            torch._foreach_add_(scale, s.eps)
            torch._foreach_mul_(params, 1 - lr * group.weight_decay)
            torch._foreach_addcdiv_(params, first, scale, -lr / correct1)


def _of(params: Mapping[Role, list[Tensor]], roles: tuple[Role, ...]) -> list[Tensor]:
    return [p for role in roles for p in params.get(role, [])]
