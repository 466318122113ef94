"""The error-feedback sweep under every solver: round a column, let the later columns make up for it.

Rounding W [rows, cols] to step * Q costs tr(E H E^T) with E = W - step * Q, H = X^T X over the layer's inputs.
With U upper, U^T U = H^-1, columns in processing order (largest diag H first):

    y = w_j / step_j;   q_j = clamp(round(y * shrink_j), -qmax, qmax)
    e = (w_j - step_j q_j) / U_jj;   w_l <- w_l - e U_jl  for l > j

Why it is enough to look at one column: H = L D L^T with L = U^-1 diag(U_jj) unit upper and D = 1 / U_jj^2, so
the loss is sum_j d_j |F_j|^2 with F = E L, and the sweep makes F_j what column j leaves on being rounded. The
pivots d_j say what a squared residual costs in each column; rate-distortion solvers set steps by them.
(GPTQ, https://arxiv.org/abs/2210.17323, is the LDLQ of QuIP, https://arxiv.org/abs/2307.13304, Theorem 6.)

`shrink` is rate-aware rounding in closed form. Under a Gaussian prior of s steps a code costs q^2 / (2 s^2 ln 2)
bits, so argmin_q rho (y - q)^2 / 2 + mu q^2 / (2 s^2 ln 2) over the integers is round(y * shrink) with
shrink = 1 / (1 + mu / (rho s^2 ln 2)).

Why it is written transposed: a column of W becomes contiguous, so a step is five vector operations. A column
takes what the earlier ones of its block owe it as one product just before its turn (half the memory traffic of
updating the rest of the block after each), columns beyond the block take one product per block, and equal
shapes go through together. Measured in `benchmarks/solvers.py`.

Why float64 throughout: float32 saves a third of the time, but one residual near a tie flips a code and
everything after it in that row moves: 0 to 3 codes in 10,000 differ, for no better and no worse a loss. In
float64 codes do not depend on block, batch or device (ties in float64 aside: one in about 10^12 codes).
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
    """What sweeps need to know of a batch of Hessians [n, n]."""

    upper: Float[Tensor, "batch n n"]  # U: upper, U^T U = H^-1, both axes in processing order
    order: Int64[Tensor, "batch n"]  # order[:, k] is processed k-th
    dead: Bool[Tensor, "batch n"]  # never seen in calibration; in the original order, as is all below

    @property
    def unit(self) -> Float[Tensor, "batch n n"]:
        """diag(1 / U_jj) U: how a residual of row j spreads to later columns; its inverse is L of L D L^T."""
        return self.upper / self.upper.diagonal(dim1=1, dim2=2).unsqueeze(2)

    @property
    def pivots(self) -> Float[Tensor, "batch n"]:
        """D: what a squared residual costs in each column, in the original order."""
        ordered = self.upper.diagonal(dim1=1, dim2=2).pow(-2)
        return torch.empty_like(ordered).scatter_(1, self.order, ordered)


def factor(
    h: Float[Tensor, "batch n n"],
    damping: float,
    act_order: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Factor:
    """Factor Hessians, damped by a fraction of their mean diagonal; a dead input's diagonal becomes 1.

    With the axes reversed, H = (lower)(lower)^T is H = G G^T with G upper, and U = G^-1: one Cholesky and one
    triangular inverse, where inverting H first takes two of the one and more of the other.

    Raises:
        HessianNotPositive: if one of them cannot be factored, or holds what is no number.
    """
    h = h.detach().to(dtype)
    n = h.shape[-1]
    _all_factor(_finite(h), f"{n} x {n} Hessian", "has entries that are NaN or infinite")
    diagonal = h.diagonal(dim1=1, dim2=2)
    dead = diagonal == 0
    diagonal = diagonal.masked_fill(dead, 1.0)
    order = torch.arange(n, device=h.device).expand(len(h), n)
    if act_order:
        order = diagonal.argsort(dim=1, descending=True, stable=True)
    back = order.flip(1)
    damped = h[torch.arange(len(h), device=h.device)[:, None, None], back.unsqueeze(2), back.unsqueeze(1)]
    diagonal = diagonal + damping * diagonal.mean(1, keepdim=True)
    damped.diagonal(dim1=1, dim2=2).copy_(diagonal.take_along_dim(back, 1))
    lower, failed = torch.linalg.cholesky_ex(damped)
    _all_factor(failed == 0, f"damped {n} x {n} Hessian", "is not positive definite")
    upper = _inverse_of_upper(lower.flip(1, 2))
    return Factor(upper, order, dead)


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
    left = _columns_first(w, factor, dtype)
    left[factor.dead.take_along_dim(factor.order, 1)] = 0
    step = _columns_first(step, factor, dtype)
    shrink = None if shrink is None else _columns_first(shrink, factor, dtype)
    most = _columns_first(qmax, factor, dtype) if isinstance(qmax, Tensor) else None
    codes, residuals = torch.empty_like(left), torch.empty_like(left)
    cols = left.shape[1]
    for begin in range(0, cols, block):
        end = min(begin + block, cols)
        for j in range(begin, end):
            if j > begin:
                left[:, j : j + 1].baddbmm_(owed_by[:, j : j + 1, begin:j], residuals[:, begin:j], alpha=-1)
            q = torch.div(left[:, j], step[:, j], out=codes[:, j])
            if shrink is not None:
                q.mul_(shrink[:, j])
            q.round_()
            if most is not None:
                q.clamp_(-most[:, j], most[:, j])
            elif isinstance(qmax, int):
                q.clamp_(-qmax, qmax)
            torch.addcmul(left[:, j], q, step[:, j], value=-1, out=residuals[:, j])
        left[:, end:].baddbmm_(owed_by[:, end:, begin:end], residuals[:, begin:end], alpha=-1)
    return _pick(codes, factor.order.argsort(1)).mT.contiguous()


def _inverse_of_upper(g: Float[Tensor, "batch n n"], block: int = 128) -> Float[Tensor, "batch n n"]:
    """Block rows from below, by products: [[A, B], [0, C]]^-1 = [[A^-1, -A^-1 B C^-1], [0, C^-1]]."""
    n = g.shape[-1]
    x = torch.zeros_like(g)
    for begin in reversed(range(0, n, block)):
        end = min(begin + block, n)
        eye = torch.eye(end - begin, dtype=g.dtype, device=g.device)
        corner = torch.linalg.solve_triangular(g[:, begin:end, begin:end], eye, upper=True)
        x[:, begin:end, begin:end] = corner
        x[:, begin:end, end:] = -corner @ (g[:, begin:end, end:] @ x[:, end:, end:])
    return x


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
    """A copy as [batch, cols, rows] in processing order; what all columns share is not repeated."""
    t = t.detach().to(dtype).mT
    return t.expand(-1, factor.order.shape[1], -1) if t.shape[1] == 1 else _pick(t, factor.order)


def _pick(t: Float[Tensor, "batch n some"], order: Int64[Tensor, "batch n"]) -> Float[Tensor, "batch n some"]:
    """Rows of each member in an order of its own: contiguous, and several times faster than a gather."""
    batch, n, some = t.shape
    flat = order + n * torch.arange(batch, device=order.device).unsqueeze(1)
    return t.reshape(batch * n, some).index_select(0, flat.flatten()).view(batch, n, some)


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
