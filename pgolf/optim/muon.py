"""Muon: momentum whose update is orthogonalized, for matrices.

    g <- mean gradient (centralized, raised to a power: both off by default)
    m <- mu m + g;   u = g + mu m
    u_i <- u_i / |u_i| for each row               (row_normalize: MuonEq-R, PR 1217)
    X = orthogonalized u                          (orthogonalizer.py), rows evened out (nor_muon.py)
    p <- p (1 - lr wd) - lr sqrt(max(1, rows/cols)) X

The learning rate is in units of spectral norm per update. m is a plain sum, not an average. Rows are the
outputs of an [out, in] matrix: normalizing the other axis of a stack cost one attempt 40 % (PR 1418).
Momentum warms up over a fraction of the run and decay tapers over another, so that a schedule means the
same at any length.

Over several ranks each orthogonalizes its slice of every bank (bank.py): the largest bank's gradients are
sent first, and a bank is gathered and applied while the next one computes (PR 399, 549).
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from pgolf.optim.bank import Bank, banks_of
from pgolf.optim.centralize import Centralize
from pgolf.optim.decay_taper import DecayTaper
from pgolf.optim.gradient_power import GradientPower
from pgolf.optim.nor_muon import NorMuon
from pgolf.optim.orthogonalizer import POLAR_EXPRESS, Orthogonalizer, PolarExpress, orthogonalize
from pgolf.optim.ranks import Pending, Ranks
from pgolf.section import RuleBroken, Section

TINY_ROW = 1e-7


class Muon(Section):
    lr: float = Field(0.04, gt=0)
    momentum: float = Field(0.95, ge=0, lt=1)
    momentum_start: float = Field(0.85, ge=0, lt=1)
    momentum_warmup_fraction: float = Field(0.04, ge=0, le=1)  # of the run
    momentum_dtype: Literal["bfloat16"] | None = (
        None  # of gradients sent and momentum; None: the weights' own
    )
    newton_schulz_steps: int = Field(5, ge=1, le=12)
    orthogonalizer: Orthogonalizer | None = None  # None: the classic coefficients
    row_normalize: bool = False
    nor_muon: NorMuon | None = None
    gradient_power: GradientPower | None = None
    centralize: Centralize | None = None
    weight_decay: float = Field(0.0, ge=0)
    decay_taper: DecayTaper | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Muon":
        most = len(POLAR_EXPRESS)
        if isinstance(self.orthogonalizer, PolarExpress) and self.newton_schulz_steps > most:
            raise RuleBroken(
                f"Polar Express has coefficients for {most} steps", self.newton_schulz_steps,
                f"newton_schulz_steps={most}",
            )  # fmt: skip
        if self.decay_taper is not None and self.weight_decay == 0:
            raise RuleBroken("decay_taper tapers a weight decay", "weight_decay=0", "set weight_decay")
        return self

    def momentum_at(self, progress: float) -> float:
        if progress >= self.momentum_warmup_fraction:
            return self.momentum
        share = progress / self.momentum_warmup_fraction
        return self.momentum_start + share * (self.momentum - self.momentum_start)

    def decay_at(self, progress: float) -> float:
        return self.weight_decay * (self.decay_taper.multiplier(progress) if self.decay_taper else 1.0)


class MuonState:
    """Momentum of this rank's slices, and the update. `send`, then `step`."""

    MUTABLE: ClassVar[tuple[str, ...]] = ("momenta", "second")

    def __init__(self, section: Muon, params: list[Tensor], ranks: Ranks) -> None:
        self.section = section
        dtype = torch.bfloat16 if section.momentum_dtype else None
        self.banks = banks_of(params, ranks, dtype)
        self.momenta = [bank.momentum for bank in self.banks]
        self.second = [_per_row(bank) for bank in self.banks] if section.nor_muon else []

    def send(self) -> None:
        """Start averaging every gradient, the largest bank first."""
        for bank in self.banks:
            bank.send()

    def own_grads(self) -> list[Tensor]:
        """The mean gradients of this rank's slices, to be scaled in place: waits for all of them."""
        return [bank.own_grads() for bank in self.banks]

    @torch.no_grad()
    def step(self, lr_scale: float, progress: float) -> None:
        """Update every matrix; the gradients have been sent."""
        lr = self.section.lr * lr_scale
        keep = 1 - lr * self.section.decay_at(progress)
        flying: tuple[Bank, Pending] | None = None
        for i, bank in enumerate(self.banks):
            started = bank, bank.spread(self._update(i, progress))
            if flying is not None:
                _land(*flying, lr, keep)
            flying = started
        if flying is not None:
            _land(*flying, lr, keep)

    def _update(self, i: int, progress: float) -> Float[Tensor, "own rows cols"]:
        s, mu, bank = self.section, self.section.momentum_at(progress), self.banks[i]
        g = bank.own_grads()
        g = s.centralize.centered(g) if s.centralize else g
        g = s.gradient_power.raised(g) if s.gradient_power else g
        bank.momentum.mul_(mu).add_(g)
        u = torch.add(g, bank.momentum, alpha=mu)
        u = u.to(torch.promote_types(u.dtype, torch.float32))
        if s.row_normalize:
            u = u / u.norm(dim=2, keepdim=True).clamp_min(TINY_ROW)
        x = orthogonalize(u, s.newton_schulz_steps, s.orthogonalizer)
        return s.nor_muon.evened(x, self.second[i]) if s.nor_muon else x


def _land(bank: Bank, pending: Pending, lr: float, keep: float) -> None:
    bank.apply(pending.wait(), lr * max(1.0, bank.rows / bank.cols) ** 0.5, keep)


def _per_row(bank: Bank) -> Float[Tensor, "own rows 1"]:
    own = bank.momentum
    return own.new_zeros((*own.shape[:2], 1), dtype=torch.promote_types(own.dtype, torch.float32))
