"""Codes of +-1 zeroed, the cheapest first, until the artifact fits: never over, and no more than it takes (PR 609).

    cost_rc = 1/2 g_r A_cc step_rc^2

where the Fisher is known, what zeroing the code costs were it alone and the rest exact; elsewhere the published
step^2. That codes carry errors already is left out on purpose: adding its slope g_r (E A)_rc, exact for one code, made
the loss worse than step^2 does once a few percent of bytes went, because codes that go together pull one way.
How many go is found on real bytes. The original never fired: its target was counted in MiB and so lay above the cap.

It wraps any quantizer and prunes its answer, below a low-rank correction too. Finer or coarser grids are the better
use of a byte (pgolf.quantize.rate_distortion); this is for grids that have been chosen and just miss. Where even all of
them are not enough it is an outcome, not a fit.

`magnitude` zeroes a share of every matrix's smallest weights before anything is quantized.
"""

import math
from dataclasses import replace
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.formats.quantized import LowRankMatrix, Matrix, QuantizedMatrix
from pgolf.model.roles import Role
from pgolf.quantize.base import Plain
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.lqer import Lqer
from pgolf.quantize.problem import Finish, Matrices, Problem, QuantizerSection, spare_bytes
from pgolf.quantize.statistics import Statistics

PASSES = 24


class Pruned(QuantizerSection):
    kind: Literal["pruned"] = "pruned"
    base: Annotated[Plain | Lqer, Field(discriminator="kind")] = Gptq()
    target_bytes: int | None = Field(None, ge=1)  # of the artifact with its code; None: the rules' cap
    magnitude: float | None = Field(None, gt=0, lt=1)  # share of weights zeroed beforehand

    @property
    def needs(self) -> frozenset[str]:
        return self.base.needs

    @property
    def solves_for_bytes(self) -> bool:
        return True

    def expected_artifact_bytes(self, least: int, cap: int) -> int:
        return min(self.base.expected_artifact_bytes(least, cap), self.target_bytes or cap)

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        """Of what is left when every +-1 is gone, if codes are as Gaussian as their number of bits."""
        count = max(rows * cols, 1)
        bits = self.base.expected_bits(role, rows, cols) / count
        return _least_bits(bits) * count

    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        """Raises InfeasibleTrial if it does not fit without a single +-1."""
        if self.magnitude is not None:
            smaller = {n: _without_smallest(w, self.magnitude) for n, w in problem.weights.items()}
            given = self.base.quantize_all(replace(problem, weights=smaller))
        else:
            given = self.base.quantize_all(problem)
        target = self.target_bytes or problem.target_bytes

        def pruned(count: int) -> tuple[int, Matrices]:
            made = _pruned(given, order, count) if count else given
            made = made if finish is None else finish(made, None)
            return problem.measure(made), made

        order: dict[str, Tensor] = {}
        size, made = pruned(0)
        if size <= target:
            return made
        order, most = _order(given, problem)
        over, allowed = (0, size), spare_bytes(target)
        size, made = pruned(most)
        if size > target:
            raise InfeasibleTrial(Infeasible(reason="artifact_bytes", measured=size, limit=target))
        fits = most, size
        for _ in range(PASSES):
            if target - fits[1] <= allowed or fits[0] - over[0] <= 1:
                break
            share = (over[1] - target) / max(over[1] - fits[1], 1)
            count = over[0] + round((fits[0] - over[0]) * min(max(share, 0.1), 0.9))
            count = min(max(count, over[0] + 1), fits[0] - 1)
            size, tried = pruned(count)
            if size <= target:
                fits, made = (count, size), tried
            else:
                over = count, size
        return made


def _codes(m: Matrix) -> QuantizedMatrix | None:
    """What may be pruned of a matrix; None: nothing, as its zeros change its scales."""
    if isinstance(m, LowRankMatrix):
        return m.base
    return m if isinstance(m, QuantizedMatrix) else None


def _order(matrices: Matrices, problem: Problem) -> tuple[dict[str, Int64[Tensor, "rows cols"]], int]:
    """By matrix: when each code of +-1 goes, all others never; and how many there are."""
    codes = {n: c for n, m in matrices.items() if (c := _codes(m)) is not None}
    places = {n: c.q.abs() == 1 for n, c in codes.items()}
    costs = [_costs(codes[n], n, problem.statistics)[at] for n, at in places.items()]
    by_cost = torch.cat(costs).argsort(stable=True) if costs else torch.empty(0, dtype=torch.int64)
    turn = torch.empty_like(by_cost)
    turn[by_cost] = torch.arange(len(by_cost))
    order, begin = {}, 0
    for name, at in places.items():
        count = int(at.sum())
        order[name] = torch.full(at.shape, len(turn), dtype=torch.int64)
        order[name][at] = turn[begin : begin + count]
        begin += count
    return order, len(turn)


def _costs(codes: QuantizedMatrix, name: str, s: Statistics) -> Float[Tensor, "rows cols"]:
    square = codes.step.double().square().expand(codes.shape)
    if name not in s.rows:
        return square
    a = s.inputs(name)
    weighted = 0.5 * s.rows[name].double().unsqueeze(1) * square
    return weighted if a is None else weighted * a.diagonal()


def _pruned(matrices: Matrices, order: dict[str, Tensor], count: int) -> Matrices:
    out: Matrices = {}
    for name, m in matrices.items():
        codes = _codes(m)
        if codes is None:
            out[name] = m
            continue
        left = replace(codes, q=codes.q.masked_fill(order[name] < count, 0))
        out[name] = replace(m, base=left) if isinstance(m, LowRankMatrix) else left
    return out


def _without_smallest(w: Float[Tensor, "rows cols"], share: float) -> Float[Tensor, "rows cols"]:
    gone = w.abs().flatten().argsort(stable=True)[: int(share * w.numel())]
    left = w.flatten().clone()
    left[gone] = 0
    return left.view(w.shape)


def _least_bits(bits: float) -> float:
    """Entropy of a rounded Gaussian of so many bits, less what telling -1, 0 and 1 apart takes of it."""
    if bits <= 1:
        return 0.0
    step = 2.0 ** (math.log2(math.sqrt(2 * math.pi * math.e)) - bits)
    inner = math.erf(0.5 * step / math.sqrt(2))
    three = math.erf(1.5 * step / math.sqrt(2))
    shares = [inner, (three - inner) / 2, (three - inner) / 2]
    apart = -sum(p * math.log2(p / three) for p in shares if p > 0)
    return max(bits - apart, 0.0)
