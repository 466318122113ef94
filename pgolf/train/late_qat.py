"""Late quantization-aware training: near the end, block matrices are applied as rounded ones.

    x = w / step,   step = half-range / qmax,   qmax = 2^(bits - 1) - 1,   half-range = row maximum or k sigmas
    to the power 2^(k / 8) that will be stored: the nearest one, for the row maximum the next one up

    straight_through    w^ = step clamp(round(x), -qmax, qmax),                 dw^/dw taken as 1
    soft_round          w^ = step (floor(x) + sigmoid(a (x - floor(x) - 1/2))), a rising over the phase
    noisy               w^ = w + step u,   u uniform in [-1/2, 1/2)

The first shows the network its own rounding errors; the second slides into rounding with a true gradient;
the third trains flatness alone (PR 363 used it on the recurrent band, where an error is applied several
times). Only the last part of a run has it: early on the grid moves faster than the weights settle.
Ternary and binary weights, which want it from the first step on, are in pgolf.train.grouped_qat.

Steps and codes are the deployed ones (those of pgolf.quantize.sd_clip, of quant_gate for the row maximum). In
PR 315 training clipped at -32 what the export clipped at -31. What is averaged, calibrated and stored are the
weights before rounding: a solver such as GPTQ does better on them than on rounded ones.

In PR 315 to 549 the first was dead code: a flag of the class, read inside a compiled function, is a constant
of the first trace. Here it is an attribute of every `Linear`, which the compiler guards on, and the graph
with it is compiled before the clock starts. What changes from step to step (a, the noise) is a tensor.
"""

from abc import abstractmethod
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int16
from pydantic import Field
from torch import Tensor

from pgolf.formats.quantized import COARSEST, STEPS_PER_OCTAVE, step_codes
from pgolf.model.gpt import Gpt
from pgolf.model.linear import Linear
from pgolf.section import Section
from pgolf.train.grouped_qat import Binary, Ternary
from pgolf.train.rounder import Rounder, straight_through


class Grid(Section):
    """What the three forms on row grids share: the grid, and when it begins."""

    bits: int = Field(6, ge=2, le=8)
    clip_sigmas: float | None = Field(None, gt=0)  # half-range in row standard deviations; None: row maximum
    from_fraction: float = Field(0.85, ge=0, lt=1)  # of the run

    @property
    def qmax(self) -> int:
        return int(2 ** (self.bits - 1) - 1)

    @property
    def settles(self) -> bool:
        """Whether the rounded weights are what is kept at the end."""
        return False

    def steps(self, w: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows 1"]:
        """The step of each row, as it will be stored; no gradient goes through it."""
        w = w.detach().float()
        if self.clip_sigmas is not None:
            return exact(step_codes(self.clip_sigmas * w.double().std(dim=1, correction=0) / self.qmax))
        widest = w.abs().amax(dim=1) / self.qmax
        near = step_codes(widest)
        return exact((near + (exact(near).squeeze(1) < widest).short()).clamp_max(COARSEST))

    @abstractmethod
    def rounding(self, number: int, device: torch.device) -> Rounder:
        """The rounding of matrix `number` of a network."""


class StraightThrough(Grid):
    kind: Literal["straight_through"] = "straight_through"

    def rounding(self, number: int, device: torch.device) -> Rounder:
        return ToNearest(self)


class SoftRound(Grid):
    kind: Literal["soft_round"] = "soft_round"
    sharpness_start: float = Field(1.0, gt=0)
    sharpness_end: float = Field(16.0, gt=0)  # reached with the run's end

    def rounding(self, number: int, device: torch.device) -> Rounder:
        return Softly(self, device)


class Noisy(Grid):
    kind: Literal["noisy"] = "noisy"
    recurrent_only: bool = False  # the matrices of the recurrent band alone

    def rounding(self, number: int, device: torch.device) -> Rounder:
        return WithNoise(self, number, device)


LateQat = Annotated[StraightThrough | SoftRound | Noisy | Ternary | Binary, Field(discriminator="kind")]


def exact(codes: Int16[Tensor, " rows"]) -> Float[Tensor, "rows 1"]:
    """`steps_of` in operations that compile, the same numbers: each is the float32 nearest to 2^(code / 8)."""
    return torch.exp2(codes.double() / STEPS_PER_OCTAVE).float().unsqueeze(1)


class ToNearest(Rounder):
    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def __call__(self, w: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
        step, qmax = self.grid.steps(w), self.grid.qmax
        return straight_through(w, (w.detach() / step).round().clamp(-qmax, qmax) * step)


class Softly(Rounder):
    def __init__(self, grid: SoftRound, device: torch.device) -> None:
        self.grid = grid
        self.sharpness = torch.tensor(grid.sharpness_start, device=device)

    def turn(self, progress: float, step: int) -> None:
        s = self.grid
        share = min(max((progress - s.from_fraction) / (1 - s.from_fraction), 0.0), 1.0)
        self.sharpness.fill_(s.sharpness_start + share * (s.sharpness_end - s.sharpness_start))

    def __call__(self, w: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
        step = self.grid.steps(w)
        x = (w / step).clamp(-self.grid.qmax, self.grid.qmax)
        whole = x.detach().floor()
        return step * (whole + torch.sigmoid(self.sharpness * (x - whole - 0.5)))


class WithNoise(Rounder):
    def __init__(self, grid: Noisy, number: int, device: torch.device) -> None:
        self.grid, self.number = grid, number
        self.seed = torch.zeros((), dtype=torch.int64, device=device)

    def turn(self, progress: float, step: int) -> None:
        self.seed.fill_((step * 65_537 + self.number) % 2**31)

    def __call__(self, w: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
        return w + self.grid.steps(w) * hashed_uniform(w, self.seed)


def hashed_uniform(like: Float[Tensor, "rows cols"], seed: Tensor) -> Float[Tensor, "rows cols"]:
    """Numbers in [-1/2, 1/2) from (place, seed), by two rounds of a 32-bit multiply-xorshift hash.

    Not the global generator: ranks need the same noise, and a compiled graph takes no other generator.
    """
    x = torch.arange(like.numel(), device=like.device) + (seed << 24)
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    return (x / 2**32 - 0.5).to(like.dtype).view(like.shape)


class Quantization:
    """The roundings of one network, off until `set` turns them on. Without a section nothing is ever on."""

    def __init__(self, section: LateQat | None, network: Gpt) -> None:
        self.section = section
        self.matrices = _matrices(section, network) if section is not None else []
        device = network.embedding.weight.device
        self.rounders = [section.rounding(i, device) for i in range(len(self.matrices))] if section else []

    def switches(self) -> tuple[float, ...]:
        """The run fractions at which the graph changes."""
        return (self.section.from_fraction,) if self.section is not None else ()

    def set(self, progress: float, step: int) -> None:
        """What holds at this fraction of the run, for the step with this number."""
        if self.section is None:
            return
        if progress < self.section.from_fraction:
            self.off()
            return
        for matrix, rounder in zip(self.matrices, self.rounders, strict=True):
            rounder.turn(progress, step)
            matrix.rounding = rounder

    def off(self) -> None:
        """Nothing rounded: the weights as they are kept."""
        for matrix in self.matrices:
            matrix.rounding = None

    def show(self) -> None:
        """The network as it would be deployed now: what probes measure."""
        if self.section is None or not self.section.settles:
            self.off()

    @torch.no_grad()
    def settle(self) -> None:
        """At the end: off, and where the rounded weights are the network, they take the weights' place."""
        for matrix in self.matrices:
            if self.section is not None and self.section.settles and matrix.rounding is not None:
                matrix.weight.copy_(matrix.rounding(matrix.weight))
        self.off()


def _matrices(section: LateQat, network: Gpt) -> list[Linear]:
    blocks = list(network.blocks)
    if isinstance(section, Noisy) and section.recurrent_only:
        band = network.config.recurrence
        assert band is not None, "the config refuses recurrent_only without a recurrence"
        stored = sorted({network.uses[at] for at in range(band.first, band.last + 1)})
        blocks = [network.blocks[i] for i in stored]
    return [m for block in blocks for m in block.modules() if isinstance(m, Linear)]
