"""The error-feedback sweep under every solver: round a column, let the later columns make up for it.

Rounding W [rows, cols] to step * Q costs tr(E H E^T) with E = W - step * Q, H = X^T X over the layer's inputs.
With H = L D L^T, L unit upper, columns in processing order (largest diag H first):

    y = (w_j + sum_i<j e_i L_ij) / step_j;   q_j = clamp(round(y * shrink_j), -qmax, qmax);   e_j = w_j - step_j q_j

Why: with F = E L the loss is sum_j d_j |F_j|^2, and F_j is what column j leaves on being rounded. The pivots d_j
say what a squared residual costs in each column; rate-distortion solvers set steps by them. This is LDLQ
(https://arxiv.org/abs/2307.13304), and GPTQ (https://arxiv.org/abs/2210.17323) code for code: there U upper,
U^T U = H^-1, and w_l <- w_l - F_j U_jl / U_jj for l > j. U = D^-1/2 L^-1, so that form pays for an inverse (half of
the factor's time) to subtract the same.

`shrink` is rate-aware rounding in closed form. Under a Gaussian prior of s steps a code costs q^2 / (2 s^2 ln 2)
bits, so argmin_q rho (y - q)^2 / 2 + mu q^2 / (2 s^2 ln 2) over the integers is round(y * shrink) with
shrink = 1 / (1 + mu / (rho s^2 ln 2)).

Why it is written transposed: a column of W becomes contiguous, so a step is five vector operations. A column
takes what the earlier ones of its block owe it as one product just before its turn (half the memory traffic of
updating the rest of the block after each), columns beyond the block take one product per block, and equal
shapes go through together. Measured in `benchmarks/solvers.py`.

Why float64 throughout: float32 saves a third of the time or so, but one residual near a tie flips a code and
everything after it in that row moves: 0 to 5 codes in 10,000 differ, for no better and no worse a loss. In
float64 codes do not depend on block, batch or device.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pgolf.errors import PgolfError


class HessianNotPositive(PgolfError):
    """The damped Hessian has no Cholesky factor: calibration produced something that is no Gram matrix."""


@dataclass(frozen=True)
class Factor:
    """What sweeps need to know of a batch of Hessians [n, n]: H = L D L^T after damping."""

    unit: Float[Tensor, "batch n n"]  # L: unit upper, both axes in processing order
    order: Int64[Tensor, "batch n"]  # order[:, k] is processed k-th
    pivots: Float[Tensor, "batch n"]  # D: what a squared residual costs; in the original order
    dead: Bool[Tensor, "batch n"]  # never seen in calibration; in the original order


def factor(
    h: Float[Tensor, "batch n n"],
    damping: float,
    act_order: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Factor:
    """Factor Hessians, damped by a fraction of their mean diagonal; a dead input's diagonal becomes 1.

    With both axes reversed, the lower Cholesky factor is the upper one of H = (L D^1/2) (L D^1/2)^T.

    Raises:
        HessianNotPositive: if one of them cannot be factored, or holds what is no number.
    """
    h = h.detach()
    batch, n = h.shape[:2]
    _all_factor(_finite(h), f"{n} x {n} Hessian", "has entries that are NaN or infinite")
    diagonal = h.diagonal(dim1=1, dim2=2).to(dtype)
    dead = diagonal == 0
    diagonal = diagonal.masked_fill(dead, 1.0)
    order = torch.arange(n, device=h.device).expand(batch, n)
    if act_order:
        order = diagonal.argsort(dim=1, descending=True, stable=True)
    backwards = order.flip(1)
    damped = torch.empty(batch, n, n, dtype=dtype, device=h.device)
    for i, back in enumerate(backwards):
        damped[i] = h[i].index_select(0, back).index_select(1, back)
    diagonal = diagonal + damping * diagonal.mean(1, keepdim=True)
    damped.diagonal(dim1=1, dim2=2).copy_(diagonal.take_along_dim(backwards, 1))
    lower, failed = torch.linalg.cholesky_ex(damped)
    _all_factor(failed == 0, f"damped {n} x {n} Hessian", "is not positive definite")
    root = lower.mT.flip(1, 2)  # (L D^1/2)^T: contiguous, as sweeps want it
    scale = root.diagonal(dim1=1, dim2=2)
    pivots = torch.empty_like(diagonal).scatter_(1, order, scale.square())
    return Factor((root / scale.unsqueeze(2)).mT, order, pivots, dead)


def sweep(
    w: Float[Tensor, "batch rows cols"],
    factor: Factor,
    step: Float[Tensor, "batch rows #cols"],
    qmax: int | Float[Tensor, "batch 1 #cols"] | None,
    shrink: Float[Tensor, "batch rows #cols"] | None = None,
    block: int = 64,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "batch rows cols"]:
    """Codes of equal-shaped matrices, as floats of `dtype` in the original column order.

    Args:
        factor: of the Hessians of the columns.
        step: of the grid, one per row or one per weight.
        qmax: codes are clamped to -qmax .. qmax, one for all or one a column; None: they are not.
        shrink: factor on y before it is rounded, see above; None: 1.
        block: columns between two updates of all the columns to come. A matter of speed alone.

    Raises:
        ValueError: if a weight is NaN or infinite, or a step is not a positive number.
    """
    check_inputs(w, step, shrink)
    owed_by = factor.unit.mT.to(dtype).contiguous()  # [later column, earlier column]
    errors = _columns_first(w, factor, dtype)  # weights, until their turn
    errors[factor.dead.take_along_dim(factor.order, 1)] = 0
    codes = errors.clone()  # what a column should hold instead of its weights, until its turn
    step = _columns_first(step, factor, dtype)
    shrink = None if shrink is None else _columns_first(shrink, factor, dtype)
    most = _columns_first(qmax, factor, dtype) if isinstance(qmax, Tensor) else None
    cols = errors.shape[1]
    for begin in range(0, cols, block):
        end = min(begin + block, cols)
        for j in range(begin, end):
            if j > begin:
                codes[:, j : j + 1].baddbmm_(owed_by[:, j : j + 1, begin:j], errors[:, begin:j])
            q, step_j = codes[:, j], step[:, j]
            q.div_(step_j)
            if shrink is not None:
                q.mul_(shrink[:, j])
            q.round_()
            if most is not None:
                q.clamp_(-most[:, j], most[:, j])
            elif isinstance(qmax, int):
                q.clamp_(-qmax, qmax)
            errors[:, j].addcmul_(q, step_j, value=-1)
        codes[:, end:].baddbmm_(owed_by[:, end:, begin:end], errors[:, begin:end])
    ordered = torch.empty_like(codes.mT, memory_format=torch.contiguous_format)
    for i, home in enumerate(factor.order.argsort(1)):
        ordered[i] = codes[i].index_select(0, home).T
    return ordered


def check_inputs(w: Tensor, step: Tensor, shrink: Tensor | None) -> None:
    """Refuse what would spread through a sweep as NaN, naming the matrix it is in."""
    checks = {
        "weights must not be NaN or infinite": _finite(w),
        "steps must be positive and finite": _finite(step) & (step > 0).flatten(1).all(1),
    }
    if shrink is not None:
        checks["shrinks must not be NaN or infinite"] = _finite(shrink)
    for rule, good in checks.items():
        spoilt = _first(~good)
        if spoilt is not None:
            raise ValueError(f"{rule}: batch member {spoilt} breaks this")


def _columns_first(
    t: Float[Tensor, "batch rows some"], factor: Factor, dtype: torch.dtype
) -> Float[Tensor, "batch cols rows"]:
    """A copy as [batch, cols, rows] in processing order, a member at a time to stay in the cache.

    What all columns share is not repeated.
    """
    batch, cols = factor.order.shape
    if t.shape[2] == 1:
        return t.detach().to(dtype).mT.expand(-1, cols, -1)
    ordered = torch.empty(batch, cols, t.shape[1], dtype=dtype, device=t.device)
    for i, order in enumerate(factor.order):
        ordered[i] = t[i].detach().index_select(1, order).T
    return ordered


def _finite(t: Float[Tensor, "batch ..."]) -> Bool[Tensor, " batch"]:
    """By the extremes, which any NaN turns into NaN: a pass without temporaries."""
    low, high = t.detach().flatten(1).aminmax(dim=1)
    return low.isfinite() & high.isfinite()


def _all_factor(good: Bool[Tensor, " batch"], what: str, fault: str) -> None:
    spoilt = _first(~good)
    if spoilt is not None:
        raise HessianNotPositive(f"the {what} of batch member {spoilt} {fault}")


def _first(bad: Bool[Tensor, " batch"]) -> int | None:
    return int(bad.nonzero()[0]) if bool(bad.any()) else None
