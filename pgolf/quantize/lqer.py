"""Low-rank error correction: what a base quantizer left over, written out in a few cheap outer products (PR 1797).

    W ~ Q(W) + sum_i a_i b_i^T,   E = W - Q(W) of the base as it is, protected columns and all

Plain, a_i b_i are the leading singular pairs of E. Whitened, they are those of M = G^1/2 E L with A = L L^T the
damped inputs' second moment and G the outputs' Fisher where it is known: the best correction for what E costs,
tr(G E A E^T), and not for E itself (QERA's closed form, https://arxiv.org/abs/2410.06040; LQER,
https://arxiv.org/abs/2402.02446, scales by magnitudes). With v, u the singular vectors of M,

    rows >= cols   v of M^T M:   a = E L v           b = L^-T v
    rows <  cols   u of M M^T:   a = G^-1/2 u        b = E^T G^1/2 u

so one symmetric eigenproblem of the smaller side is all there is to solve. Codes of `a` come first, and `refit`
makes b the least-squares answer to them and to what the components before left: b = R^T G a / (a^T G a). It mends
what two bits do to a singular vector, at no byte. Historic packing has one step for all of A, set by its largest
entry and so by the first component, which rounds most of the later ones to zero; a step for each costs a byte.

Worth it? Error on a rate-distortion optimal grid is white in the whitened metric, and of white noise a component
saves (sqrt rows + sqrt cols)^2 / (2 b ln 2 (rows + cols)) of what its b bits a number would save as finer steps: less
than 1 at any b, after what b bits lose. So where a byte has a price a component is bought only if what it
really saves exceeds what it costs, and usually none is; on grids that are not optimal there is something to find.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.formats.quantized import LowRankMatrix, QuantizedMatrix, step_codes, steps_of
from pgolf.model.roles import Role
from pgolf.quantize.base import Plain
from pgolf.quantize.forms import WORTHLESS, floored
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.grids import STEP_BITS
from pgolf.quantize.problem import Finish, Matrices, Problem, QuantizerSection
from pgolf.quantize.sharing import Shared
from pgolf.quantize.statistics import HESSIANS
from pgolf.section import Section

NOTHING = 1e-12  # of the error's power: a component without more is the end of it


class Symmetric(Section):
    """`bits` for both factors; a step for each component of either."""

    kind: Literal["symmetric"] = "symmetric"
    bits: int = Field(4, ge=3, le=8)


class Asymmetric(Section):
    """A in two bits, -2 to 1; B in four, -8 to 7, with a step for every `group` consecutive columns."""

    kind: Literal["asymmetric"] = "asymmetric"
    group: int = Field(64, ge=1)
    scales: Literal["column", "tensor"] = "column"  # of A; the records have one for the tensor
    otherwise: Symmetric | None = Symmetric()  # where `group` does not divide the columns; None: an error


class Lqer(QuantizerSection):
    kind: Literal["lqer"] = "lqer"
    base: Plain = Gptq()
    rank: int = Field(4, ge=1, le=8)
    top_k: int = Field(3, ge=1)  # matrices that are corrected
    whiten: bool = True
    refit: bool = True
    damping: float = Field(0.01, gt=0)  # of A, where errors are whitened by it
    packing: Annotated[Asymmetric | Symmetric, Field(discriminator="kind")] = Asymmetric()
    select: Literal["frobenius", "gain"] = "gain"  # by the error's norm, or by predicted saving a byte

    @property
    def needs(self) -> frozenset[str]:
        own = {HESSIANS} if self.whiten or self.select == "gain" else set()
        return self.base.needs | own

    @property
    def solves_for_bytes(self) -> bool:
        return self.base.solves_for_bytes

    def expected_artifact_bytes(self, least: int, cap: int) -> int:
        return self.base.expected_artifact_bytes(least, cap)

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        """The table, the largest, is first in line; which others are corrected, a few KB each, training decides."""
        own = self.base.expected_bits(role, rows, cols)
        if self.base.solves_for_bytes or role is not Role.EMBEDDING:
            return own
        if isinstance(self.packing, Asymmetric):
            factors = 2 * rows + 4 * cols + STEP_BITS * (1 + cols / self.packing.group)
        else:
            factors = self.packing.bits * (rows + cols) + 2 * STEP_BITS
        return own + self.rank * factors

    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        """The base's answer, corrected; shared among the ranks.

        Raises:
            ValueError: if `group` does not divide a corrected matrix's columns and nothing is said of that.
        """
        names = [n for n in problem.weights if problem.roles[n].is_matrix]
        parts = Shared(problem.runtime, [_Part(self, problem, name) for name in names])
        settled: dict[str, int] = {}
        asked = False

        def corrected(matrices: Matrices, price: float | None) -> Matrices:
            """What is bought is settled at the first price: a solver looks for the target near it, on bytes that
            must not jump by whole components."""
            nonlocal asked
            if asked:
                found = self._again(parts, matrices, settled)
            else:
                found = self._corrections(parts, matrices, price)
                settled.update({name: len(m.a.q) for name, m in found.items()})
                asked = price is not None
            out = matrices | found
            return out if finish is None else finish(out, price)

        return self.base.quantize_all(problem, corrected)

    def _again(
        self, parts: "Shared[_Part]", matrices: Matrices, ranks: dict[str, int]
    ) -> dict[str, LowRankMatrix]:
        """Corrections of these ranks."""
        fitted = parts.each(
            lambda part: part.fitted(matrices, None, ranks[part.name]) if part.name in ranks else {}
        )
        return {name: fitted[name].matrix for name in matrices if name in fitted}

    def _corrections(
        self, parts: "Shared[_Part]", matrices: Matrices, price: float | None
    ) -> dict[str, LowRankMatrix]:
        """The `top_k` that are corrected: at a price those that gain most, else the first by `select`."""
        if price is None and self.select == "frobenius":
            norms = parts.each(lambda part: part.norm(matrices))
            wanted = _first(norms, self.top_k)
            fitted = parts.each(lambda part: part.fitted(matrices, None) if part.name in wanted else {})
        else:
            fitted = parts.each(lambda part: part.fitted(matrices, price))
            if price is None:
                worth = {name: f.saved / f.bytes for name, f in fitted.items()}
            else:
                worth = {name: f.saved - price * f.bytes for name, f in fitted.items()}
            wanted = _first(worth, self.top_k)
        return {name: fitted[name].matrix for name in matrices if name in wanted and name in fitted}


@dataclass(frozen=True)
class Corrected:
    matrix: LowRankMatrix
    saved: float  # predicted: nats a token where the Fisher is known, else half the weighted squared error
    bytes: float  # what the factors are expected to cost


@dataclass
class _Part:
    """One matrix; what does not depend on the base's answer is worked out once."""

    section: Lqer
    problem: Problem
    name: str

    @property
    def cost(self) -> float:
        rows, cols = self.problem.weights[self.name].shape
        return rows * cols * min(rows, cols)

    def prepare(self) -> None:
        """When it is first asked for: most matrices are never corrected."""

    @cached_property
    def rows(self) -> Float[Tensor, " rows"]:
        """G, or ones where it is unknown."""
        known = self.problem.statistics.rows
        if self.name not in known:
            count = self.problem.weights[self.name].shape[0]
            return torch.ones(count, dtype=torch.float64, device=self.problem.runtime.device)
        g = known[self.name].double().to(self.problem.runtime.device)
        return floored(g, WORTHLESS).clamp_min(1e-30)

    @cached_property
    def inputs(self) -> Float[Tensor, "cols cols"] | None:
        """A; None: the identity."""
        a = self.problem.statistics.inputs(self.name)
        return None if a is None else a.to(self.problem.runtime.device)

    @cached_property
    def root(self) -> Float[Tensor, "cols cols"] | None:
        """L of the damped inputs; None: the identity."""
        a = self.inputs
        if a is None:
            return None
        mean = a.diagonal().mean().clamp_min(1e-30)
        return torch.linalg.cholesky(
            a + torch.eye(len(a), dtype=a.dtype, device=a.device) * (self.section.damping * mean)
        )

    def error(self, base: QuantizedMatrix) -> Float[Tensor, "rows cols"]:
        return (self.problem.weights[self.name] - base.dequantize()).double().to(self.problem.runtime.device)

    def norm(self, matrices: Matrices) -> dict[str, float]:
        base = matrices.get(self.name)
        return {self.name: float(self.error(base).norm())} if isinstance(base, QuantizedMatrix) else {}

    def fitted(
        self, matrices: Matrices, price: float | None, rank: int | None = None
    ) -> dict[str, Corrected]:
        """Nothing where there is nothing to correct, or where no component is worth its price."""
        base = matrices.get(self.name)
        if not isinstance(base, QuantizedMatrix):
            return {}
        s, left_over = self.section, self.error(base)
        g, root = (self.rows, self.root) if s.whiten else (torch.ones_like(self.rows), None)
        a, b = leading(left_over, g, root, min(rank or s.rank, *left_over.shape))
        pack = _Packing(s.packing, self.name, a)
        bought: list[tuple[QuantizedMatrix, QuantizedMatrix]] = []
        saved, size = 0.0, 0.0
        for left, right in zip(a, b, strict=True):
            packed_left = pack.left(left)
            left = packed_left.dequantize()[0].double().to(left.device)
            if not left.any():
                break
            if s.refit:
                right = (g * left) @ left_over / ((g * left) @ left)
            packed_right = pack.right(right)
            right = packed_right.dequantize().flatten().double().to(right.device)
            saves, costs = self._saving(left_over, left, right), coded_bytes(packed_left, packed_right)
            if price is not None and saves <= price * costs:
                break
            bought.append((packed_left, packed_right))
            saved, size = saved + saves, size + costs
            left_over = left_over - torch.outer(left, right)
        if not bought:
            return {}
        matrix = LowRankMatrix(
            base, _stacked([left for left, _ in bought]), _stacked([right for _, right in bought])
        )
        return {self.name: Corrected(matrix, saved, size)}

    def _saving(self, error: Tensor, left: Tensor, right: Tensor) -> float:
        """Half of tr(G E A E^T), without and with E less the outer product."""
        g, met = self.rows * left, right if self.inputs is None else self.inputs @ right
        return float(g @ (error @ met) - 0.5 * (g @ left) * (right @ met))


def leading(
    e: Float[Tensor, "rows cols"],
    g: Float[Tensor, " rows"],
    root: Float[Tensor, "cols cols"] | None,
    rank: int,
) -> tuple[Float[Tensor, "found rows"], Float[Tensor, "found cols"]]:
    """The components of E that cost most in the metric, `rank` of them unless E ends before.

    Right factors have length 1, and the largest entry of a left one is negative: a two-bit code reaches -2.
    """
    seen = e if root is None else e @ root
    m = g.sqrt().unsqueeze(1) * seen
    tall = m.shape[0] >= m.shape[1]
    values, vectors = torch.linalg.eigh(m.T @ m if tall else m @ m.T)
    count = int((values[-rank:] > NOTHING * values.clamp_min(0).sum()).sum())
    top = vectors[:, vectors.shape[1] - count :].flip(1)
    if tall:
        a = (seen @ top).T
        b = (top if root is None else torch.linalg.solve_triangular(root.T, top, upper=True)).T
    else:
        a = (top / g.sqrt().unsqueeze(1)).T
        b = (top * g.sqrt().unsqueeze(1)).T @ e
    length = b.norm(dim=1, keepdim=True)
    widest = a.take_along_dim(a.abs().argmax(dim=1, keepdim=True), 1)
    sign = -torch.where(widest < 0, -1.0, 1.0).to(a.dtype)
    return a * length * sign, b / length * sign


class _Packing:
    """Codes of one matrix's factors."""

    def __init__(self, packing: Asymmetric | Symmetric, name: str, a: Float[Tensor, "rank rows"]) -> None:
        self.packing, self.name = packing, name
        self.widest = float(a.abs().max()) if len(a) else 0.0  # of all components

    def left(self, a: Float[Tensor, " rows"]) -> QuantizedMatrix:
        if isinstance(self.packing, Symmetric):
            return _symmetric(a, self.packing.bits)
        widest = self.widest if self.packing.scales == "tensor" else float(a.abs().max())
        return _coded(a.unsqueeze(0), torch.tensor([widest / 1.5]), -2, 1)

    def right(self, b: Float[Tensor, " cols"]) -> QuantizedMatrix:
        p = self.packing
        if isinstance(p, Asymmetric) and len(b) % p.group:
            if p.otherwise is None:
                raise ValueError(
                    f"lqer.packing.group divides the columns of what it corrects: {self.name} has {len(b)}, "
                    f"group is {p.group}; give another group, or packing.otherwise"
                )
            p = p.otherwise
        if isinstance(p, Symmetric):
            return _symmetric(b, p.bits)
        groups = b.view(-1, p.group)
        return _coded(groups, groups.abs().amax(1) / 7.5, -8, 7)


def _symmetric(x: Float[Tensor, " n"], bits: int) -> QuantizedMatrix:
    most = 2 ** (bits - 1) - 1
    return _coded(x.unsqueeze(0), x.abs().max().unsqueeze(0) / most, -most, most)


def _coded(
    x: Float[Tensor, "rows cols"], steps: Float[Tensor, " rows"], least: int, most: int
) -> QuantizedMatrix:
    row = step_codes(steps).cpu()
    q = (x.cpu() / steps_of(row).double().unsqueeze(1)).round().clamp(least, most)
    return QuantizedMatrix(q.short(), row)


def _stacked(parts: list[QuantizedMatrix]) -> QuantizedMatrix:
    return QuantizedMatrix(torch.cat([m.q for m in parts]), torch.cat([m.row for m in parts]))


def coded_bytes(*factors: QuantizedMatrix) -> float:
    """After an entropy coder: the entropy of the codes, their table at half a log2 of their number a symbol, steps."""
    bits = 0.0
    for m in factors:
        counts = m.q.unique(return_counts=True)[1].double()
        total = float(counts.sum())
        bits += float(-(counts * (counts / total).log2()).sum()) + 0.5 * (len(counts) - 1) * math.log2(total)
        bits += STEP_BITS * len(m.row)
    return bits / 8


def _first(scores: dict[str, float], count: int) -> set[str]:
    """The names with the highest scores; the earlier in the alphabet where two are equal."""
    return set(sorted(scores, key=lambda name: (-scores[name], name))[:count])
