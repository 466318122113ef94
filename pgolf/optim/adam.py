"""AdamW for what is not a matrix in the block: the token table and the control vectors.

    p <- p (1 - lr wd);   p <- p - lr m^ / (sqrt(v^) + eps)

with bias-corrected moments and the scheduled rate in both terms (decoupled decay).
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from pgolf.model.roles import Role
from pgolf.section import Section


class Adam(Section):
    embedding_lr: float = Field(0.05, gt=0)
    control_lr: float = Field(0.04, gt=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    embedding_weight_decay: float = Field(0.0, ge=0)
    control_weight_decay: float = Field(0.0, ge=0)


class AdamState:
    """First and second moments per parameter, one learning rate per role."""

    def __init__(self, section: Adam, params: Mapping[Role, list[Tensor]]) -> None:
        self.section = section
        self.params = params
        self.first = {role: [torch.zeros_like(p) for p in ps] for role, ps in params.items()}
        self.second = {role: [torch.zeros_like(p) for p in ps] for role, ps in params.items()}
        self.steps = 0

    @torch.no_grad()
    def step(self, lr_scale: float) -> None:
        s = self.section
        self.steps += 1
        correct1, correct2 = 1 - s.beta1**self.steps, 1 - s.beta2**self.steps
        for role, lr, decay in (
            (Role.EMBEDDING, s.embedding_lr * lr_scale, s.embedding_weight_decay),
            (Role.CONTROL, s.control_lr * lr_scale, s.control_weight_decay),
        ):
            params = self.params[role]
            if not params:
                continue
            grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in params]
            torch._foreach_lerp_(self.first[role], grads, 1 - s.beta1)
            torch._foreach_mul_(self.second[role], s.beta2)
            torch._foreach_addcmul_(self.second[role], grads, grads, 1 - s.beta2)
            scale = torch._foreach_sqrt(torch._foreach_div(self.second[role], correct2))
            torch._foreach_add_(scale, s.eps)
            torch._foreach_mul_(params, 1 - lr * decay)
            torch._foreach_addcdiv_(params, self.first[role], scale, -lr / correct1)
