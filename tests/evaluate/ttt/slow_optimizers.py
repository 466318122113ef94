"""The optimizers of test-time training as torch knows them, and Muon by singular values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pgolf.evaluate.ttt.row_optimizer import RowOptimizer

A, B, C = 3.4445, -4.7750, 2.0315


class SlowMuon(torch.optim.Optimizer):
    """Nesterov's momentum; of matrices every singular value s by itself goes through s <- A s + B s^3 + C s^5."""

    def __init__(
        self, weights: Sequence[Tensor], lr: float, momentum: float, steps: int, matrices: Sequence[Tensor]
    ) -> None:
        super().__init__(weights, {"lr": lr})
        self.momentum, self.steps, self.matrices = momentum, steps, {id(p) for p in matrices}

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                v = self.state[p].setdefault("v", torch.zeros_like(p))
                v.copy_(self.momentum * v + p.grad)
                u = p.grad + self.momentum * v
                p -= group["lr"] * (self._orthogonal(u) if id(p) in self.matrices else u)

    def _orthogonal(self, u: Tensor) -> Tensor:
        left, s, right = torch.linalg.svd(u.double(), full_matrices=False)
        s = s / (s.norm() + 1e-7)
        for _ in range(self.steps):
            s = A * s + B * s**3 + C * s**5
        rows, cols = u.shape
        return (max(1.0, rows / cols) ** 0.5 * left @ torch.diag(s) @ right).float()


def optimizer(
    section: RowOptimizer, weights: Sequence[Tensor], lr: float, matrices: Sequence[Tensor]
) -> torch.optim.Optimizer:
    """Over tensors apart; `matrices` are those of them that Muon orthogonalizes. Decay is decoupled in all."""
    weights = list(weights)
    if section.kind == "adamw":
        betas = section.beta1, section.beta2
        return torch.optim.AdamW(weights, lr, betas, section.eps, section.weight_decay)
    made: torch.optim.Optimizer
    if section.kind == "rmsprop":
        made = torch.optim.RMSprop(weights, lr, alpha=section.beta2, eps=section.eps)
    elif section.kind == "sgd":
        made = torch.optim.SGD(weights, lr, momentum=section.momentum)
    else:
        made = SlowMuon(weights, lr, section.momentum, section.newton_schulz_steps, matrices)

    def decay(steps: torch.optim.Optimizer, *_: object) -> None:
        for group in steps.param_groups:
            for p in group["params"]:
                p.data *= 1 - group["lr"] * section.weight_decay

    made.register_step_pre_hook(decay)
    return made
