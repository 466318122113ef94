"""The training loop: one clock, one forward, one optimizer; the same loss on any number of ranks.

Gradients are averaged over ranks as one flat buffer and every rank then makes the same update. Rank 0's
clock is the only clock. Measuring `val_bpb` on the way (for live curves and the kill gate) stops the
clock, as the competition's own loop does. A loss that is not finite ends the trial as `diverged`.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from pgolf.data.loader import Batch, Windows
from pgolf.errors import Infeasible, InfeasibleTrial
from pgolf.formats.checkpoint import Checkpoint
from pgolf.model.gpt import Gpt, GptConfig
from pgolf.optim.optimizer import Optim, Optimizer
from pgolf.runtime import Clock, Runtime, forget_peak_memory, peak_memory_bytes
from pgolf.section import RuleBroken, Section
from pgolf.stage import Metrics
from pgolf.train.budget import Budget, Steps

Probe = Callable[[Gpt], float]  # bits per byte of a fixed sample, for live curves and gates
REPORT_SECONDS = 1.0
PROBES = (0.25, 0.5, 0.75)  # of the run: where val_bpb is measured, off the clock


class Train(Section):
    """The budget and the shape of a batch."""

    budget: Budget = Steps(steps=1000)
    batch_tokens: int = Field(524_288, ge=1)  # per optimizer step, all ranks together
    context: int = Field(1024, ge=2)  # tokens a row
    rows_at_once: int = Field(64, ge=1)  # rows per forward and rank; more are accumulated

    @model_validator(mode="after")
    def _rows(self) -> "Train":
        if self.batch_tokens % self.context:
            below = max(self.batch_tokens // self.context, 1) * self.context
            raise RuleBroken(
                "batch_tokens is a multiple of context",
                f"batch_tokens={self.batch_tokens}, context={self.context}",
                f"batch_tokens={below}",
            )
        return self

    @property
    def rows(self) -> int:
        return self.batch_tokens // self.context


def loss_nats(model: Gpt, batch: Batch) -> Float[Tensor, ""]:
    """Mean cross-entropy over the batch, in nats per token."""
    return F.cross_entropy(model(batch.tokens, batch.starts).flatten(0, 1), batch.targets.flatten())


def train(
    tokens: Path, *, out: Path, runtime: Runtime, seed: int, model: GptConfig, optim: Optim, train: Train,
    vocab_size: int, probe: Probe, probes: tuple[float, ...] = PROBES,
) -> Metrics:  # fmt: skip
    """Train and write a checkpoint (rank 0).

    Raises:
        InfeasibleTrial: the loss is not finite, or `report` stopped the trial at a gate.
    """
    forget_peak_memory(runtime.device)
    network = model.build(vocab_size).reset(seed).on(runtime.device)
    optimizer = Optimizer(optim, network, runtime)
    batches = iter(Windows(tokens, train.context, train.rows, seed, runtime.rank, runtime.world_size))
    due_at = list(probes)
    clock, step, progress, reported = Clock(), 0, 0.0, -math.inf
    loss, stopped = math.nan, None
    while progress < 1.0:
        with clock:
            batch = next(batches)
            loss = _accumulate(network, batch, train.rows_at_once, runtime)
            _finite(loss, vocab_size)
            # in wall-clock mode this step's own length is not known yet; the last one's serves
            ahead, stopped = _agreed(runtime, train.budget.progress(step + 1, clock.read()), stopped)
            optimizer.step(progress, max(ahead - progress, 1e-9))
            step, progress = step + 1, ahead
        due = bool(due_at) and due_at[0] <= progress < 1.0
        if due:
            due_at.pop(0)
        if runtime.leads and (due or time.monotonic() - reported > REPORT_SECONDS or progress >= 1.0):
            reported = time.monotonic()
            metrics = {"train_loss": loss, "train_seconds": clock.seconds, "progress": progress}
            stopped = _told(runtime, step, metrics | ({"val_bpb": probe(network)} if due else {}))
        if due or runtime.world_size == 1:  # others wait here for the probe, off the clock
            _, stopped = _agreed(runtime, progress, stopped)
    _agreed(runtime, progress, stopped)
    with clock:
        optimizer.finish()
        _finite(_loss_of_one_row(network, batch, runtime), vocab_size)  # the last update is in no loss yet
    if runtime.leads:
        Checkpoint(model.plain(), vocab_size, dict(network.named_parameters())).write(out)
    return {
        "train_seconds": clock.seconds,
        "steps": step,
        "train_tokens": step * train.batch_tokens,
        "tokens_per_second": step * train.batch_tokens / clock.seconds,
        "params": network.params,
        "final_train_loss": loss,
        "peak_memory_bytes": peak_memory_bytes(runtime.device),
    }


def _accumulate(network: Gpt, batch: Batch, rows_at_once: int, runtime: Runtime) -> float:
    """Gradients of the global batch's mean loss, on every rank; returns that loss."""
    rows = len(batch.tokens)
    total = torch.zeros((), dtype=torch.float64)
    for at in range(0, rows, rows_at_once):
        part = Batch(*(t[at : at + rows_at_once] for t in (batch.tokens, batch.starts, batch.targets)))
        part = part.to(runtime.device)
        loss = loss_nats(network, part) * (len(part.tokens) / rows)
        loss.backward()
        total += loss.detach().double().cpu()
    if runtime.world_size > 1:
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads] + [total.to(grads[0]).view(1)])
        dist.all_reduce(flat)
        flat /= runtime.world_size
        for g, mean in zip(grads, flat[:-1].split([g.numel() for g in grads]), strict=True):
            g.copy_(mean.view_as(g))
        return float(flat[-1])
    return float(total)


@torch.no_grad()
def _loss_of_one_row(network: Gpt, batch: Batch, runtime: Runtime) -> float:
    row = Batch(*(t[:1] for t in (batch.tokens, batch.starts, batch.targets))).to(runtime.device)
    return float(loss_nats(network, row))


def _told(runtime: Runtime, step: int, metrics: Metrics) -> Infeasible | None:
    """Report; the outcome that the listener stops the trial with, if it does."""
    try:
        runtime.report(step, metrics)
    except InfeasibleTrial as gate:
        return gate.outcome
    return None


def _agreed(runtime: Runtime, progress: float, stopped: Infeasible | None) -> tuple[float, Infeasible | None]:
    """Rank 0's progress on every rank. Raises InfeasibleTrial on all of them if rank 0 was told to stop:
    a rank that left alone would leave the others waiting for its gradients."""
    progress, stopped = runtime.agree((progress, stopped))  # type: ignore[misc]
    if stopped is not None:
        raise InfeasibleTrial(stopped)
    return progress, None


def _finite(value: float, vocab_size: int) -> None:
    """The limit on record is the loss of a model that knows nothing."""
    if not math.isfinite(value):
        raise InfeasibleTrial(Infeasible(reason="diverged", measured=None, limit=math.log(vocab_size)))
