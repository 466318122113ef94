"""The training loop: one clock, one forward, one optimizer; the same loss on any number of ranks.

A step: what of the network is on is set from the progress f that all ranks agree on; each rank adds up the
gradients of its rows; the optimizer averages them over ranks and, with them, what the ranks have to tell one
another (pgolf.train.agreement). Rank 0's clock is the only clock. It starts after warm-up and stands still
while `val_bpb` is measured on the way (for live curves and the kill gate), as the competition's own does. A
budget in seconds ends with the step that reaches it. A loss that is not finite ends the trial as `diverged`.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from pydantic import Field, model_serializer, model_validator
from torch import Tensor

from pgolf.data.batch import Batch
from pgolf.data.loader import Batches, Loader
from pgolf.data.prefetch import Prefetch
from pgolf.data.shuffled_windows import ShuffledWindows
from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.formats.checkpoint import Checkpoint
from pgolf.kernels.attention import Backend
from pgolf.model.gpt import Gpt, GptConfig
from pgolf.optim.optimizer import Optim, Optimizer
from pgolf.runtime import Clock, Runtime, forget_peak_memory, peak_memory_bytes
from pgolf.section import RuleBroken, Section
from pgolf.stage import Metrics
from pgolf.train.agreement import Agreement
from pgolf.train.budget import Budget, Steps
from pgolf.train.gradients import Gradients, compiling
from pgolf.train.late_qat import LateQat
from pgolf.train.objective import Objective, loss_nats
from pgolf.train.progressive_context import ContextClock, ProgressiveContext
from pgolf.train.switches import Switches
from pgolf.train.warmup import COMPILED, Warmup, warm_up

Probe = Callable[[Gpt], float]  # bits per byte of a fixed sample, for live curves and gates
REPORT_SECONDS = 1.0
PROBES = (0.25, 0.5, 0.75)  # of the run: where val_bpb is measured, off the clock
LENGTHS = 4  # steps whose shortest is the forecast of the next


class Train(Section):
    """The budget, the data's order and shape, what is minimized, and what of it changes over the run."""

    budget: Budget = Steps(steps=1000)
    batch_tokens: int = Field(524_288, ge=1)  # per optimizer step, all ranks together
    context: int = Field(1024, ge=2)  # tokens that a position sees at most, itself included
    rows_at_once: int = Field(64, ge=1)  # of `context` tokens, per forward and rank; more are accumulated
    loader: Loader = ShuffledWindows()
    progressive_context: ProgressiveContext | None = None
    objective: Objective = Objective()
    late_qat: LateQat | None = None
    warmup: Warmup | None = None
    compile: bool | None = None  # None: on a GPU

    @model_validator(mode="after")
    def _rows(self) -> "Train":
        row = self.row_tokens
        if row < self.context:
            raise RuleBroken("a packed row holds at least one context",
                             f"loader.tokens_per_row={row}, context={self.context}",
                             f"loader.tokens_per_row={self.context} or more")  # fmt: skip
        if self.batch_tokens % row:
            below = max(self.batch_tokens // row, 1) * row
            name = "context" if row == self.context else "loader.tokens_per_row"
            raise RuleBroken(f"batch_tokens is a multiple of {name}",
                             f"batch_tokens={self.batch_tokens}, {name}={row}", f"batch_tokens={below}")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _contexts(self) -> "Train":
        for stage in self.progressive_context.stages if self.progressive_context else ():
            last = stage.until_fraction == 1.0
            if stage.context > self.context or (last and stage.context != self.context):
                raise RuleBroken("progressive_context ends at train.context and exceeds it nowhere",
                                 f"{stage.context} until {stage.until_fraction}, train.context={self.context}",
                                 f"context: {self.context} in the last stage")  # fmt: skip
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Nor do the loader and the objective that were the only ones before there was a choice."""
        off = {name for name, field in type(self).model_fields.items() if field.default is None}
        plain = {k: v for k, v in serialize(self).items() if v is not None or k not in off}
        for name, always in (("loader", ShuffledWindows()), ("objective", Objective())):
            if getattr(self, name) == always:
                del plain[name]
        return plain

    @property
    def row_tokens(self) -> int:
        return self.loader.row_tokens(self.context)

    @property
    def rows(self) -> int:
        """Of a global batch."""
        return self.batch_tokens // self.row_tokens

    @property
    def forward_rows(self) -> int:
        """Rows in one forward: `rows_at_once` contexts' worth of tokens, and one row at least."""
        return max(self.rows_at_once * self.context // self.row_tokens, 1)

    @property
    def contexts(self) -> tuple[int, ...]:
        """The caps on a segment that the run will have, the first one first."""
        staged = self.progressive_context
        return tuple(stage.context for stage in staged.stages) if staged else (self.context,)


def train(
    tokens: Path, *, out: Path, runtime: Runtime, seed: int, model: GptConfig, optim: Optim, train: Train,
    vocab_size: int, probe: Probe, probes: tuple[float, ...] = PROBES,
) -> Metrics:  # fmt: skip
    """Train and write a checkpoint (rank 0).

    Raises:
        InfeasibleTrial: the loss is not finite, or `report` stopped the trial at a gate.
    """
    forget_peak_memory(runtime.device)
    compiled = runtime.device == "cuda" if train.compile is None else train.compile
    with compiling(compiled):
        run = _Run(tokens, runtime, seed, model, optim, train, vocab_size, compiled)
        run.warm_up()
        run.meet()
        with Prefetch(run.batches()) as batches:
            run.train(batches, probe, probes)
        if runtime.leads:
            weights = dict(run.network.named_parameters())
            Checkpoint(model.plain(), vocab_size, weights).write(out)
        return run.metrics()


class _Run:
    """One run: its parts, and how far it is."""

    def __init__(
        self, tokens: Path, runtime: Runtime, seed: int, model: GptConfig, optim: Optim, section: Train,
        vocab_size: int, compiled: bool,
    ) -> None:  # fmt: skip
        self.runtime, self.section, self.vocab_size, self.compiled = runtime, section, vocab_size, compiled
        self.network = model.build(vocab_size).reset(seed).on(runtime.device)
        choice = self.network.choose_attention(
            section.forward_rows, section.row_tokens, section.context, runtime.attention, compiled
        )
        self.network.backend = cast(Backend, runtime.agree(choice.name))
        self.network.use_kernels(runtime.fused_kernels and runtime.device == "cuda")
        runtime.notes["kernels"] = "fused" if self.network.fused else "torch"
        runtime.notes["attention"] = f"{self.network.backend}: {choice.why}"
        self.data = Batches(
            tokens, section.loader, section.context, section.rows, seed, runtime.rank, runtime.world_size
        )
        self.clock, objective = Clock(), section.objective
        heads, weigher = objective.heads(self.network), None
        if objective.token_weighting is not None:
            with self.clock:  # weights are counted in training data
                weigher = objective.weigher(self.data.stream, vocab_size, section.context, runtime.device)
        self.optimizer = Optimizer(optim, self.network, runtime, heads)
        self.gradients = Gradients(
            self.network,
            heads,
            objective,
            weigher,
            runtime.device,
            section.forward_rows,
            compiled,
            longest=section.context,
        )
        self.switches = Switches(self.network, section.late_qat)
        self.contexts = ContextClock(section.progressive_context, section.context)
        self.agreement = Agreement(runtime)
        self.step, self.progress, self.made, self.nats = 0, 0.0, 0.0, math.nan
        self._lengths = deque[float](maxlen=LENGTHS)  # seconds of the last steps

    def batches(self) -> Iterable[Batch]:
        """This rank's batches, from the first on."""
        return map(Batch.pinned, self.data) if self.runtime.device == "cuda" else self.data

    def warm_up(self) -> None:
        """Off the clock, and without a trace but what `keep_momentum` leaves."""
        warmup = self.section.warmup or (Warmup(steps=COMPILED) if self.compiled else None)
        if warmup is not None:
            warm_up(
                warmup, self.gradients, self.optimizer, self.switches, self.data, self.section.contexts,
                every_size=self.compiled,
            )  # fmt: skip

    def meet(self) -> None:
        """Wait until every rank and its device are done with what comes before the clock: a rank that still
        compiles would hold the others up in the first step, and steps still under way would be counted."""
        here = self.optimizer.ranks.total(torch.ones(1, device=self.runtime.device))
        assert float(here) == self.runtime.world_size  # reading it waits for the device

    def train(self, batches: Iterator[Batch], probe: Probe, probes: tuple[float, ...]) -> None:
        """Until the budget is spent; then put the averaged weights into the network as deployed."""
        due_at, reported = list(probes), -math.inf
        stopped: Infeasible | None = None
        while self.progress < 1.0:
            batch, stop = self._step(batches, stopped is not None)
            if due := bool(due_at) and due_at[0] <= self.progress < 1.0:
                due_at.pop(0)
            now = time.monotonic()
            if self.runtime.leads and (due or now - reported > REPORT_SECONDS or self.progress >= 1.0):
                reported = now
                stopped = stopped or self._told(probe if due else None)
            if due or stop or self.runtime.world_size == 1:  # others wait here for the probe, off the clock
                self.agreement.conclude(stopped)
        self.agreement.conclude(stopped)
        with self.clock:
            self.optimizer.finish()
            self.switches.deploy()
            last = self.optimizer.ranks.total(self._loss_of_one_row(batch).view(1))
            self._finite(float(last))  # of all ranks; the last update is in no loss yet

    def metrics(self) -> Metrics:
        trained = self.step * self.section.batch_tokens
        return {
            "train_seconds": self.clock.seconds,
            "steps": self.step,
            "train_tokens": trained,
            "tokens_per_second": trained / self.clock.seconds,
            "params": self.network.params,
            "final_train_loss": self.nats,
            "peak_memory_bytes": peak_memory_bytes(self.runtime.device),
        }

    def _step(self, batches: Iterator[Batch], stop: bool) -> tuple[Batch, bool]:
        """One optimizer step; its batch, and whether rank 0 was told to stop."""
        begun = self.clock.seconds
        with self.clock:
            context, lr_factor = self.contexts.at(self.progress, self.step)
            self.switches.set(self.progress, self.step)
            batch = next(batches)
            nats = self.gradients.add(batch, context)
            ahead = self._ahead(begun)
            counted = isinstance(self.section.budget, Steps)
            made = ahead - self.progress if counted else self.made  # a clock's is known a step later
            ride = self.agreement.ride(nats, ahead, stop)
            mean = self.optimizer.step(self.progress, max(made, 1e-9), ride, lr_factor)
            agreed = self.agreement.read(mean)
            self._finite(agreed.nats)
        self._lengths.append(self.clock.seconds - begun)
        ahead = ahead if counted else max(agreed.ahead, self.progress)
        self.step, self.made, self.progress = self.step + 1, ahead - self.progress, ahead
        self.nats = agreed.nats
        return batch, agreed.stop

    def _ahead(self, begun: float) -> float:
        """The fraction of the run that will be over when the next step begins, by this rank's clock.

        On a GPU the backward is still under way: then the shortest of the last steps says how long this one
        will take. The shortest, since one slow step must not be taken for the end of the run.
        """
        expected = begun + min(self._lengths, default=0.0)
        return self.section.budget.progress(self.step + 1, max(self.clock.read(), expected))

    def _told(self, probe: Probe | None) -> Infeasible | None:
        """Report; the outcome that the listener stops the trial with, if it does."""
        metrics = {
            "train_loss": self.nats,
            "train_seconds": self.clock.seconds,
            "progress": self.progress,
        }
        if probe is not None:
            self.switches.quantization.show()
            metrics["val_bpb"] = probe(self.network)
        try:
            self.runtime.report(self.step, metrics)
        except InfeasibleTrial as gate:
            return gate.outcome
        return None

    @torch.no_grad()
    def _loss_of_one_row(self, batch: Batch) -> Float[Tensor, ""]:
        row = next(batch.capped(self.section.context).parts(1)).to(self.runtime.device)
        return loss_nats(self.network, row)

    def _finite(self, nats: float) -> None:
        """The limit on record is the loss of a model that knows nothing."""
        if not math.isfinite(nats):
            limit = math.log(self.vocab_size)
            raise InfeasibleTrial(Infeasible(reason="diverged", measured=None, limit=limit))
