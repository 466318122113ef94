"""The optimizer of a run: every parameter in exactly one group, by the role its module declares."""

import torch
from pydantic import Field
from torch import Tensor, nn

from pgolf.model.gpt import Gpt
from pgolf.model.roles import Role
from pgolf.optim.adam import Adam, AdamState
from pgolf.optim.ema import Ema, EmaState
from pgolf.optim.muon import Muon, MuonState
from pgolf.optim.schedule import Schedule
from pgolf.section import Section


class Optim(Section):
    muon: Muon = Muon()
    adam: Adam = Adam()
    schedule: Schedule = Schedule()
    ema: Ema | None = None
    grad_clip: float | None = Field(None, gt=0)  # global norm


class Optimizer:
    """Muon on the block matrices, AdamW on the rest, one clock for all of it."""

    def __init__(self, section: Optim, model: Gpt) -> None:
        self.section = section
        by_role: dict[Role, list[Tensor]] = {role: [] for role in Role}
        for name, p in model.named_parameters():
            by_role[model.roles[name]].append(p)
        self.params = [p for role in Role for p in by_role[role]]
        assert len(self.params) == len(list(model.parameters())), "roles are a partition"
        self.muon = MuonState(section.muon, by_role[Role.ATTENTION] + by_role[Role.MLP])
        self.adam = AdamState(section.adam, by_role)
        self.ema = EmaState(section.ema, self.params) if section.ema else None

    def step(self, progress: float, progress_made: float) -> None:
        """One update at progress f, which advances the run by `progress_made`; clears gradients."""
        if self.section.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.params, self.section.grad_clip)
        scale = self.section.schedule.scale(progress)
        self.adam.step(scale)
        self.muon.step(scale, progress)
        for p in self.params:
            p.grad = None
        if self.ema is not None:
            self.ema.update(progress_made)

    def finish(self) -> None:
        """Put the averaged weights in place, if they are averaged."""
        if self.ema is not None:
            with torch.no_grad():
                self.ema.swap_in()
