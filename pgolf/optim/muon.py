"""Muon: momentum whose update is orthogonalized by Newton-Schulz, for matrices.

    m <- mu m + g;   u = g + mu m;   X = NS(u / |u|_F);   p <- p (1 - lr wd) - lr sqrt(max(1, rows/cols)) X

The learning rate is in units of spectral norm per update. `row_normalize` equalizes the rows of u first
(MuonEq-R, PR 1217): the norm is over the input dimension of each [out, in] matrix. Momentum warms up
over a fraction of the run, so that the schedule means the same at any length.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.section import Section

CLASSIC = (3.4445, -4.7750, 2.0315)


class Muon(Section):
    lr: float = Field(0.04, gt=0)
    momentum: float = Field(0.95, ge=0, lt=1)
    momentum_start: float = Field(0.85, ge=0, lt=1)
    momentum_warmup_fraction: float = Field(0.04, ge=0, le=1)  # of the run
    newton_schulz_steps: int = Field(5, ge=1, le=12)
    row_normalize: bool = False
    weight_decay: float = Field(0.0, ge=0)

    def momentum_at(self, progress: float) -> float:
        if progress >= self.momentum_warmup_fraction:
            return self.momentum
        share = progress / self.momentum_warmup_fraction
        return self.momentum_start + share * (self.momentum - self.momentum_start)


class MuonState:
    """Momentum buffers and the update, batched over matrices of equal shape."""

    def __init__(self, section: Muon, params: list[Tensor]) -> None:
        self.section, self.params = section, params
        self.buffers = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self, lr_scale: float, progress: float) -> None:
        s, mu, lr = self.section, self.section.momentum_at(progress), self.section.lr * lr_scale
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, p in enumerate(self.params):
            shapes.setdefault(tuple(p.shape), []).append(i)
        for (rows, cols), members in shapes.items():
            grads = [_grad(self.params[i]) for i in members]
            buffers = [self.buffers[i] for i in members]
            torch._foreach_mul_(buffers, mu)
            torch._foreach_add_(buffers, grads)
            update = torch.stack(torch._foreach_add(grads, buffers, alpha=mu))
            if s.row_normalize:
                update = update / update.norm(dim=2, keepdim=True).clamp_min(1e-7)
            update = orthogonalize(update, s.newton_schulz_steps) * (lr * max(1.0, rows / cols) ** 0.5)
            for i, u in zip(members, update, strict=True):
                self.params[i].mul_(1 - lr * s.weight_decay).sub_(u)


def orthogonalize(update: Float[Tensor, "n rows cols"], steps: int) -> Float[Tensor, "n rows cols"]:
    """Push every singular value towards 1 by the classic quintic iteration (bfloat16 on a GPU).

    For singular values of at least 0.003 of the Frobenius norm, five steps land in [0.68, 1.20].
    """
    a, b, c = CLASSIC
    x = update.bfloat16() if update.is_cuda else update
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(update.dtype)


def _grad(p: Tensor) -> Tensor:
    assert p.grad is not None, "every matrix takes part in the forward"
    return p.grad
