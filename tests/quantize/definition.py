"""Error feedback as it is defined, column by column: what fast sweeps are held against, code for code.

It knows no Cholesky factor, no blocks, no batch and no transposed copies: after each column it removes that column
from the Hessian and inverts what is left anew, which is what the algorithm is (optimal brain surgery, one column at
a time, in a fixed order).
"""

import torch


def twin(w, h, step, damping, act_order, qmax=None, shrink=None):
    """Codes of one matrix by the definition, one column and one explicit inverse at a time."""
    w, h = w.clone(), h.clone()
    step = step.expand_as(w)
    shrink = torch.ones_like(w) if shrink is None else shrink.expand_as(w)
    for j in range(len(h)):
        if h[j, j] == 0:
            h[j, j] = 1
            w[:, j] = 0
    order = sorted(range(len(h)), key=lambda j: (-h[j, j].item(), j)) if act_order else list(range(len(h)))
    h += torch.eye(len(h), dtype=h.dtype) * damping * h.diagonal().mean()
    q = torch.zeros_like(w)
    left = order
    while left:
        inverse = torch.linalg.inv(h[left][:, left])
        j = left[0]
        q[:, j] = (w[:, j] / step[:, j] * shrink[:, j]).round()
        if qmax is not None:
            q[:, j] = q[:, j].clamp(-qmax, qmax)
        error = (w[:, j] - q[:, j] * step[:, j]) / inverse[0, 0]
        for k, other in enumerate(left):
            w[:, other] -= error * inverse[0, k]
        left = left[1:]
    return q
