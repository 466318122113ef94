"""Rate-distortion quantization: the byte cap is an input, one constant is solved for, and no clip is tuned.

    S_rc = kappa / sqrt(g_r d_c)        kappa such that the packed artifact is as large as it may be

How steps relate is settled by what weights are worth (pgolf.quantize.forms), so one global kappa is left, and it
is found on the artifact's real bytes: solve, pack, compare, correct log kappa by the slope that entropy has in it,
until what is left of the target is under a thousandth of it and under a kilobyte. It never lands over; where the
packer's sizes jump across the target, it lands below the jump.

At that point a byte has a price, the loss that the next one would save:

    loss = N kappa^2 / 24,  bytes = -N log2(kappa) / 8   =>   price = 8 ln 2 kappa^2 / 12   nats a token and byte

and whatever else costs bytes is bought in that currency (pgolf.quantize.lqer). Rate-aware rounding is a fraction
of the price paid inside the sweep: codes are pulled toward zero where a shorter code saves more than it costs
(CERWU, https://arxiv.org/abs/2505.18758). Gates and look-up tables have no inputs to take a Hessian from: their
columns count alike.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.formats.quantized import (
    COARSEST,
    FINEST,
    STEPS_PER_OCTAVE,
    QuantizedMatrix,
    step_codes,
    steps_of,
)
from pgolf.model.roles import Role
from pgolf.quantize.forms import (
    WORTHLESS,
    FisherGrid,
    Form,
    TwoSided,
    TypeClips,
    floored,
    relative_steps,
    worth,
)
from pgolf.quantize.problem import Finish, Matrices, Problem, QuantizerSection, batches, spare_bytes
from pgolf.quantize.sharing import Shared
from pgolf.quantize.statistics import FISHER, FULL_FISHER, HESSIANS
from pgolf.quantize.sweep import Factor, factor, sweep
from pgolf.quantize.two_sided import shrunk, sweep_two_sided

MOST_CODE = 32_767  # int16
PASSES = 16
GAUSSIAN_BITS = 2.047  # entropy of a Gaussian in steps of its deviation
STAGGER = 0.25 / STEPS_PER_OCTAVE  # octaves that equal rows are spread over: a quarter of a code
GOLDEN = (math.sqrt(5) - 1) / 2
MOST_KAPPA = 40.0  # its logarithm, either way: beyond all steps there are
LEAST_BITS, MOST_BITS = 0.5, 12.0  # a weight: where the search may begin

Point = tuple[int, float]  # bytes, log2 kappa


class RateDistortion(QuantizerSection):
    kind: Literal["rate_distortion"] = "rate_distortion"
    form: Form = FisherGrid()
    target_bytes: int | None = Field(None, ge=1)  # of the artifact with its code; None: the rules' cap
    damping: float = Field(0.01, gt=0)  # of input Hessians, as a fraction of the mean diagonal
    act_order: bool = True
    rate_aware: float = Field(0.25, ge=0, le=4)  # share of a byte's price that rounding pays; 0: to nearest

    @property
    def needs(self) -> frozenset[str]:
        full = {FULL_FISHER} if isinstance(self.form, TwoSided) else set()
        return frozenset({HESSIANS, FISHER} | full)

    @property
    def solves_for_bytes(self) -> bool:
        return True

    def expected_artifact_bytes(self, least: int, cap: int) -> int:
        return max(least, self.target_bytes or cap)

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        return LEAST_BITS * rows * cols

    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        """Raises InfeasibleTrial if even the coarsest grids do not fit."""
        target = self.target_bytes or problem.target_bytes
        parts = Shared(problem.runtime, [_Part(self, problem, n) for n in batches(problem, problem.weights)])
        clips = self._clips(parts.each(lambda part: part.worths()), problem.roles)
        volume = math.fsum(parts.each(lambda part: part.log_volumes(clips)).values())
        weights = sum(w.numel() for w in problem.weights.values())
        bits = 8 * (target - problem.measure({})) / weights
        first = volume / weights + GAUSSIAN_BITS - min(max(bits, LEAST_BITS), MOST_BITS)

        def solved(log_kappa: float) -> Matrices:
            kappa = 2.0**log_kappa
            found = parts.each(lambda part: part.at(kappa, clips))
            ordered: Matrices = {name: found[name] for name in problem.weights}
            return ordered if finish is None else finish(ordered, price_of(kappa))

        return land(solved, problem.measure, target, first, -weights / 8)

    def _clips(self, worths: dict[str, tuple[float, int]], roles: Mapping[str, Role]) -> dict[str, float]:
        """By matrix: the mean worth over those that share its clip, which is its type's or its own."""
        if not isinstance(self.form, TypeClips):
            return {name: value for name, (value, _) in worths.items()}
        out = {}
        for name in worths:
            alike = [worths[other] for other in worths if roles[other] is roles[name]]
            out[name] = sum(v * count for v, count in alike) / sum(count for _, count in alike)
        return out


def price_of(kappa: float) -> float:
    """The loss (nats a token) that one more byte of finer steps would save."""
    return 8 * math.log(2) * kappa**2 / 12


def land(
    solved: Callable[[float], Matrices],
    measure: Callable[[Matrices], int],
    target: int,
    guess: float,
    slope: float,
) -> Matrices:
    """The largest artifact found within the target: a search for log2 kappa on real bytes.

    `slope`: bytes per unit of log2 kappa, at high rates.
    """
    allowed = spare_bytes(target)
    best: tuple[int, Matrices] | None = None
    least = math.inf
    fits: Point | None = None
    over: Point | None = None
    assert math.isfinite(guess), "statistics are numbers"
    log_kappa = guess
    for turn in range(PASSES):
        matrices = solved(log_kappa)
        size = measure(matrices)
        least = min(least, size)
        if size <= target:
            fits = size, log_kappa
            if best is None or size > best[0]:
                best = size, matrices
        else:
            over = size, log_kappa
        if best is not None and target - best[0] <= allowed:
            break
        before, log_kappa = log_kappa, _next(fits, over, target - allowed / 2, slope, turn)
        if log_kappa == before:
            break
    if best is None:
        raise InfeasibleTrial(Infeasible(reason="artifact_bytes", measured=least, limit=target))
    return best[1]


def _next(fits: Point | None, over: Point | None, aim: float, slope: float, turn: int) -> float:
    """By the entropy's slope, and further every time, until one fits and one does not; then between the two.

    Regula falsi, kept off the ends. Every third turn the middle: sizes are not quite a function of kappa that
    rises and falls with it, and where they jump or stand still a chord does not get on.
    """
    if fits is None or over is None:
        size, log_kappa = fits or over or (0, 0.0)
        step = (aim - size) / slope * 1.05 * 2.0**turn
        return min(max(log_kappa + math.copysign(max(abs(step), 1e-4), step), -MOST_KAPPA), MOST_KAPPA)
    share = 0.5 if turn % 3 == 2 else (aim - fits[0]) / (over[0] - fits[0])
    return fits[1] + (over[1] - fits[1]) * min(max(share, 0.02), 0.98)


@dataclass
class _Part:
    """Matrices of one shape, solved together; what does not depend on kappa is worked out once."""

    section: RateDistortion
    problem: Problem
    names: list[str]
    rows: Factor | None = None
    cols: Factor | None = None

    @property
    def cost(self) -> float:
        rows, cols = self.problem.weights[self.names[0]].shape
        return len(self.names) * rows * cols * (cols + (rows if self.two_sided else 0))

    @property
    def two_sided(self) -> bool:
        return isinstance(self.section.form, TwoSided) and self.names[0] in self.problem.statistics.full

    def prepare(self) -> None:
        """Weights on the device, factors, pivots. Raises HessianNotPositive."""
        p, device = self.problem, self.problem.runtime.device
        self.w = torch.stack([p.weights[n].float() for n in self.names]).to(device)
        self.spread = self.w.double().std(dim=2, correction=0).clamp_min(2.0**-24)
        g = torch.stack([p.statistics.rows[n].double() for n in self.names]).to(device)
        self.g = floored(g, WORTHLESS).clamp_min(1e-30)
        self.cols = factor(self._hessians().to(device), self.section.damping, self.section.act_order)
        alive = self.cols.pivots.masked_fill(self.cols.dead, 0)
        usual = alive.sum(1, keepdim=True) / (~self.cols.dead).sum(1, keepdim=True).clamp_min(1)
        usual = usual.masked_fill(usual == 0, 1.0)  # nothing was ever seen: all codes are 0
        self.d = torch.where(self.cols.dead, usual, alive)
        if self.two_sided:
            form = self.section.form
            assert isinstance(form, TwoSided)
            full = torch.stack([p.statistics.full[n].double() for n in self.names]).to(device)
            full = full + torch.diag_embed(self.g - full.diagonal(dim1=1, dim2=2))
            self.rows = factor(shrunk(full, form.shrinkage), form.damping)
            self.g = self.rows.pivots

    def _hessians(self) -> Float[Tensor, "batch cols cols"]:
        cols = self.w.shape[2]
        if self.problem.roles[self.names[0]] in (Role.TABLE, Role.GATE):
            return torch.eye(cols, dtype=torch.float64).expand(len(self.names), cols, cols)
        found = {name: self.problem.statistics.inputs(name) for name in self.names}
        assert all(h is not None for h in found.values()), "every matrix was seen at work"
        return torch.stack([h for h in found.values() if h is not None])

    def worths(self) -> dict[str, tuple[float, int]]:
        """By name: mean of g d std^2, and the number of weights it is the mean over."""
        means = worth(self.g, self.d, self.spread).tolist()
        return {name: (mean, self.w[0].numel()) for name, mean in zip(self.names, means, strict=True)}

    def steps(self, kappa: float, clips: dict[str, float]) -> tuple[Tensor, Tensor | None]:
        """Row and column step codes. Rows of one step change their codes one after the other as kappa falls."""
        row, col = self._relative(clips)
        across = None if col is None else step_codes(col).clamp(FINEST // 2, COARSEST // 2)
        scaled = self.w if across is None else self.w / steps_of(across).unsqueeze(1)
        finest = step_codes(scaled.abs().amax(2) * (1.5 / MOST_CODE))
        turns = torch.arange(row.shape[1], dtype=torch.float64, device=row.device) * GOLDEN % 1
        codes = torch.maximum(step_codes(kappa * row * 2 ** (STAGGER * (turns - 0.5))), finest)
        return codes, across

    def _relative(self, clips: dict[str, float]) -> tuple[Tensor, Tensor | None]:
        clip = torch.tensor([clips[n] for n in self.names], dtype=torch.float64, device=self.w.device)
        by_token = self.problem.roles[self.names[0]] is Role.EMBEDDING
        return relative_steps(self.section.form, self.g, self.d, self.spread, clip, by_token)

    def log_volumes(self, clips: dict[str, float]) -> dict[str, float]:
        """By name: the sum over weights of log2 (deviation / step) at kappa = 1."""
        row, col = self._relative(clips)
        by_row = (self.spread / row).clamp_min(2.0**-20).log2().sum(1) * self.w.shape[2]
        volumes = by_row if col is None else by_row - col.log2().sum(1) * self.w.shape[1]
        return dict(zip(self.names, volumes.tolist(), strict=True))

    def at(self, kappa: float, clips: dict[str, float]) -> Matrices:
        """The matrices at this kappa."""
        row, col = self.steps(kappa, clips)
        step = steps_of(row.unsqueeze(2) if col is None else row.unsqueeze(2) + col.unsqueeze(1)).double()
        shrink = self._shrink(step, kappa)
        assert self.cols is not None
        if self.rows is not None:
            codes = sweep_two_sided(self.w, self.rows, self.cols, step, MOST_CODE, shrink)
        else:
            codes = sweep(self.w, self.cols, step, MOST_CODE, shrink)
        codes, row = codes.short().cpu(), row.cpu()
        col = None if col is None else col.cpu()
        return {
            n: QuantizedMatrix(codes[i], row[i], None if col is None else col[i])
            for i, n in enumerate(self.names)
        }

    def _shrink(self, step: Tensor, kappa: float) -> Tensor | None:
        """Of codes, where rounding pays `rate_aware` of the price: 1 / (1 + eta / (12 rho (std / step)^2)).

        rho = g d step^2 / kappa^2 is 1 where steps are what the form says a weight is worth.
        """
        eta = self.section.rate_aware
        if not eta:
            return None
        rho = self.g.unsqueeze(2) * self.d.unsqueeze(1) * (step / kappa).square()
        sigmas = self.spread.unsqueeze(2) / step
        return 1 / (1 + eta / (12 * rho * sigmas.square()).clamp_min(1e-6))
