"""Ternary and binary codes: every weight to the nearest of few levels of its group's mean magnitude.

    alpha = mean |w| of `group` consecutive weights, row after row, to the nearest float16
    ternary   q = clamp(round(w / alpha), -1, 1)
    binary    q = 1 if w >= 0 else -1
    applied   W = q alpha / mean |q|          (pgolf.formats.quantized.grouped_weights)

Training rounds by these functions and quantization stores what they return, so what was trained is what is
deployed, bit for bit. Dividing by mean |q| keeps the group's mean magnitude at alpha: a third of ternary codes
are zero, and without it every product would shrink by a third. It also makes rounding idempotent: weights that
were rounded once round to themselves. The mean is taken in float64, since its last bit decides ties of alpha.

Groups of 128: PR 640 (ternary), after BitNet b1.58 (https://arxiv.org/abs/2402.17764).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from pgolf.formats.quantized import group_sizes, grouped, grouped_weights

LARGEST = 65_504.0  # of float16: an infinite alpha would make every zero of its group a nan
Coder = Callable[[Tensor, int], tuple[Tensor, Tensor]]  # (weights, group) -> (codes, alpha)


def alphas(w: Float[Tensor, "*any"], group: int) -> Float16[Tensor, " groups"]:
    """Mean |w| of each group; the last group may be shorter."""
    total = grouped(w.detach().abs().double(), group).sum(1)
    sizes = group_sizes(w.numel(), group, w.device)
    return (total / sizes).clamp_max(LARGEST).half()


def ternary(w: Float[Tensor, "*any"], group: int) -> tuple[Float[Tensor, "*any"], Float16[Tensor, " groups"]]:
    """(codes, alpha). A group whose alpha is zero is all zeros."""
    alpha = alphas(w, group)
    scale = alpha.float().unsqueeze(1)
    q = torch.where(scale > 0, (grouped(w.detach().float(), group) / scale).round().clamp(-1, 1), 0.0)
    return q.flatten()[: w.numel()].view(w.shape), alpha


def binary(w: Float[Tensor, "*any"], group: int) -> tuple[Float[Tensor, "*any"], Float16[Tensor, " groups"]]:
    """(codes, alpha). Zero counts as positive."""
    return torch.where(w.detach() >= 0, 1.0, -1.0), alphas(w, group)


def applied(w: Float[Tensor, "*any"], group: int, coder: Coder) -> Float[Tensor, "*any"]:
    """The weights that deployment will compute from the codes of w, float32; no gradient."""
    return grouped_weights(*coder(w, group), group)
