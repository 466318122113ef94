"""The optimizer of a run: every parameter in exactly one group, by the role its module declares.

    matrices of attention, MLP and projections    Muon, sharded over the ranks in banks (muon.py)
    tables;  control vectors and gates;  heads     AdamW, three groups, whole on every rank (adam.py)

A step is everything between the backward and the next forward, in this order: clip by local norms (if that
is the scope), send the matrices' gradients (largest bank first), send all others', clip by the global norm,
AdamW while the banks fly, Muon bank by bank, clear gradients, averages. Any number of ranks make the step
that one rank makes of the mean gradient, up to the order of additions.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pgolf.model.roles import MATRICES, Role
from pgolf.optim.adam import CONTROLS, HEADS, TABLES, Adam, AdamState
from pgolf.optim.clip import ClipScope, clip_, global_norm
from pgolf.optim.ema import Ema, EmaState
from pgolf.optim.muon import Muon, MuonState
from pgolf.optim.ranks import Ranks
from pgolf.optim.schedule import LONE_FLOOR, Schedule
from pgolf.optim.snapshot import Snapshot, copied, put_back, write
from pgolf.optim.swa import Swa, SwaState
from pgolf.runtime import Runtime
from pgolf.section import RuleBroken, Section

assert sorted(MATRICES + TABLES + CONTROLS + HEADS) == sorted(Role), "every role has one group"


class Optim(Section):
    muon: Muon = Muon()
    adam: Adam = Adam()
    schedule: Schedule = Schedule()
    ema: Ema | None = None
    swa: Swa | None = None
    blend: float | None = Field(None, ge=0, le=1)  # share of swa in the final weights, the rest is ema
    grad_clip: float | None = Field(None, gt=0)  # global norm of the mean gradient
    grad_clip_scope: ClipScope | None = None  # "local": of each rank's own gradient, before the mean

    @model_validator(mode="after")
    def _fits(self) -> "Optim":
        floor = self.schedule.min_lr
        if floor > LONE_FLOOR and self.ema is None and self.swa is None:
            raise RuleBroken(
                f"a floor schedule.min_lr above {LONE_FLOOR} has averaging behind it", f"min_lr={floor}",
                f"set ema.window_fraction=0.06, or schedule.min_lr={LONE_FLOOR}",
            )  # fmt: skip
        if (self.blend is not None) != (self.ema is not None and self.swa is not None):
            raise RuleBroken(
                "blend is given where ema and swa both are, and only there", f"blend={self.blend}",
                "blend=0.5 is half of each" if self.blend is None else "blend=null",
            )  # fmt: skip
        if self.swa is not None and self.swa.below_scale <= floor:
            raise RuleBroken(
                "swa.below_scale lies above the floor schedule.min_lr, or nothing is ever averaged",
                f"below_scale={self.swa.below_scale}, min_lr={floor}", "raise swa.below_scale",
            )  # fmt: skip
        if self.grad_clip_scope is not None and self.grad_clip is None:
            raise RuleBroken("grad_clip_scope says how grad_clip is taken", "grad_clip=null", "grad_clip=0.3")
        return self


@runtime_checkable
class Trainable(Protocol):
    """What is optimized: named parameters, each with a role."""

    roles: dict[str, Role]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


class Optimizer:
    """Muon on the matrices, AdamW on the rest, one clock for all of it; the same on every rank.

    Build it once the parameters are on their device. `heads` are the training-only heads, if there are any.
    """

    def __init__(
        self, section: Optim, model: Trainable, runtime: Runtime, heads: nn.Module | None = None
    ) -> None:
        self.section, self.ranks = section, Ranks(runtime)
        by_role: dict[Role, list[Tensor]] = {role: [] for role in Role}
        named = list(model.named_parameters())
        for name, p in named:
            by_role[model.roles[name]].append(p)
        by_role[Role.HEAD].extend(heads.parameters() if heads is not None else [])
        self.muon = MuonState(section.muon, [p for role in MATRICES for p in by_role[role]], self.ranks)
        self.adam = AdamState(section.adam, by_role, self.ranks)
        self.params = [p for ps in by_role.values() for p in ps]
        self.clipped = [p for role, ps in by_role.items() if role not in HEADS for p in ps]
        given = {id(p) for _, p in named} | {id(p) for p in by_role[Role.HEAD]}
        assert len(self.params) == len(given), "every parameter is in exactly one group"
        # heads are not deployed, so they are not averaged either
        self.ema = EmaState(section.ema, self.clipped) if section.ema else None
        self.swa = SwaState(section.swa, self.clipped) if section.swa else None

    @torch.no_grad()
    def step(
        self, progress: float, progress_made: float, ride: Tensor | None = None, lr_factor: float = 1.0
    ) -> Tensor | None:
        """The end of a step that began at progress f and advances the run by `progress_made`.

        Takes each rank's own gradients (None is zero) and clears them. `ride`, a small float tensor on the
        parameters' device and of equal shape on all ranks, is averaged with them; its mean is returned.
        `lr_factor` multiplies every scheduled rate, as after a change of the context length.
        """
        if self.section.grad_clip_scope == "local":
            self._clip_own()
        self.muon.send()
        self.adam.send(ride)
        if self.section.grad_clip is not None and self.section.grad_clip_scope is None:
            sliced, whole = self.muon.own_grads(), self.adam.clipped_grads()
            norm = global_norm(sliced, whole, self.ranks)
            clip_(sliced + whole, norm, self.section.grad_clip)
        scale = self.section.schedule.scale(progress)
        self.adam.step(scale * lr_factor)
        self.muon.step(scale * lr_factor, progress)
        for p in self.params:
            p.grad = None
        if self.ema is not None:
            self.ema.update(progress_made)
        if self.swa is not None:
            self.swa.update(progress, scale)
        return self.adam.mean.ride()

    @torch.no_grad()
    def finish(self) -> None:
        """Put the averaged weights in place, if they are averaged."""
        averages = [state.average() for state in (self.ema, self.swa) if state is not None]
        if len(averages) == 2:
            assert self.section.blend is not None
            torch._foreach_lerp_(averages[0], averages[1], self.section.blend)
        if averages:
            write(self.clipped, averages[0])

    def snapshot(self) -> Snapshot:
        """Weights and states as they are. Holds as much memory again as they do."""
        others = [copied(state) for state in (self.adam, self.ema, self.swa) if state is not None]
        return Snapshot([p.detach().clone() for p in self.params], copied(self.muon), others)

    def restore(self, snapshot: Snapshot, keep_momentum: bool = False) -> None:
        """Back to a snapshot of this optimizer, exactly; gradients are cleared.

        `keep_momentum` leaves Muon's momentum as it is now. The bank stacks (PR 1530 on) did so by accident
        after the steps that warm the compiler up: momentum lived outside what they restored.
        """
        write(self.params, snapshot.weights)
        if not keep_momentum:
            put_back(self.muon, snapshot.muon)
        states = [state for state in (self.adam, self.ema, self.swa) if state is not None]
        for state, values in zip(states, snapshot.others, strict=True):
            put_back(state, values)
        for p in self.params:
            p.grad = None

    def _clip_own(self) -> None:
        """Scale this rank's own gradient to the limit by its own norm, before it is sent."""
        grads = [p.grad for p in self.clipped if p.grad is not None]
        if grads:
            assert self.section.grad_clip is not None
            clip_(grads, nn.utils.get_total_norm(grads), self.section.grad_clip)
