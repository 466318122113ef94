"""Small problems for the quantizers: random weights, correlated inputs, and what is known about them."""

import numpy as np
import torch

from pgolf.formats.quantized import LowRankMatrix, Matrix
from pgolf.model.roles import Role
from pgolf.quantize.problem import Matrices, Problem
from pgolf.quantize.statistics import Statistics

SHAPES = {
    "table": (40, 12, Role.EMBEDDING),
    "q": (12, 12, Role.ATTENTION),
    "up": (36, 12, Role.MLP),
    "down": (12, 36, Role.MLP),
}


def gram(cols: int, g: torch.Generator) -> torch.Tensor:
    mix = torch.randn(cols, cols, generator=g) * 0.6 + torch.eye(cols)
    x = (torch.randn(4 * cols, cols, generator=g) @ mix) * (torch.rand(cols, generator=g) * 3 + 0.1)
    return x.T @ x / len(x)


def problem(seed: int = 0, fisher: bool = True, target: int = 10**9, shapes=SHAPES) -> Problem:
    """`fisher`: rows, and the look-up side of the table, are known too."""
    g = torch.Generator().manual_seed(seed)
    weights = {n: torch.randn(r, c, generator=g) * (0.1 + torch.rand(r, 1, generator=g))
               for n, (r, c, _) in shapes.items()}  # fmt: skip
    hessians = {n: gram(c, g) for n, (_, c, _) in shapes.items()}
    rows = {n: torch.rand(r, generator=g).pow(3) + 0.01 for n, (r, _, _) in shapes.items()}
    lookups = {n: 0.5 * gram(c, g) for n, (_, c, role) in shapes.items() if role is Role.EMBEDDING}
    known = Statistics(hessians, lookups, rows) if fisher else Statistics(hessians)
    return Problem(weights, {n: role for n, (_, _, role) in shapes.items()}, known, coded_bytes, target)


def coded_bytes(matrices: Matrices) -> int:
    """What an ideal coder of each array by itself would take, and a kilobyte beside."""
    bits = 8000.0
    for m in matrices.values():
        for array in m.arrays().values():
            counts = np.unique(array.numpy(), return_counts=True)[1]
            bits += float(-(counts * np.log2(counts / counts.sum())).sum())
    return int(bits / 8)


def codes_of(m: Matrix) -> torch.Tensor:
    return m.base.q if isinstance(m, LowRankMatrix) else m.q


def same(a: Matrices, b: Matrices) -> bool:
    return list(a) == list(b) and all(
        x.tree() == b[n].tree() and all(torch.equal(t, b[n].arrays()[k]) for k, t in x.arrays().items())
        for n, x in a.items()
    )
