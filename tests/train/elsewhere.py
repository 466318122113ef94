"""What the tests call in another process (tests/kernels/conftest.py says why): compiled training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pgolf.data.loader import Windows
from pgolf.formats.checkpoint import Checkpoint
from pgolf.model.recurrence import Recurrence
from pgolf.optim.optimizer import Optim, Optimizer
from pgolf.runtime import Runtime
from pgolf.train import gradients, loop
from pgolf.train.budget import Steps
from pgolf.train.gradients import Gradients, compiling
from pgolf.train.late_qat import Grid, LateQat, Quantization, StraightThrough
from pgolf.train.loop import Train
from pgolf.train.objective import Objective
from pgolf.train.switches import Switches
from pgolf.train.warmup import Warmup, warm_up
from tests.nets import VOCAB, network, small, stream


def rounded(form: Grid) -> dict[str, list[torch.Tensor]]:
    """Outputs and a gradient, eager and compiled, while rounding is off, on, off and on again."""
    net = network(small(layers=1))
    tokens = stream(0, 12, 2)
    starts = tokens == 1
    layout = net.layout(starts)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, dynamic=False, backend="aot_eager")
    quantization = Quantization(form, net)
    found: dict[str, list[torch.Tensor]] = {
        "eager": [],
        "compiled": [],
        "eager_grad": [],
        "compiled_grad": [],
    }
    for progress in (0.0, 0.5, 0.0, 0.9):
        quantization.set(progress, step=7)
        for name, run in (("eager", net), ("compiled", compiled)):
            out = run(tokens, starts, layout)
            out.square().mean().backward()
            found[name].append(out.detach())
            found[f"{name}_grad"].append(net.blocks[0].mlp.up.weight.grad.clone())
            net.zero_grad()
    return found


def losses_across_switches(
    tokens: Path, warm: bool, objective: Objective
) -> tuple[list[tuple[float, float]], int, int, str]:
    """(compiled, eager) losses at progress that switches back and forth; graphs before and after the run;
    the error that a graph made in the run is."""
    gradients.BACKEND = "eager"
    band = Recurrence(first=1, last=1, passes=3, from_fraction=0.3, stagger_fraction=0.2)
    net = network(small(recurrence=band))
    heads = objective.heads(net)
    switches, data = Switches(net, StraightThrough(from_fraction=0.8)), Windows(tokens, 16, 7, seed=0)
    plain = Gradients(net, heads, objective, None, "cpu", 3)
    found: list[tuple[float, float]] = []
    error = ""
    with compiling(True):
        torch._dynamo.utils.counters.clear()
        compiled = Gradients(net, heads, objective, None, "cpu", 3, compiled=True)
        if warm:
            optimizer = Optimizer(Optim(), net, Runtime(), heads)
            warm_up(Warmup(steps=1), compiled, optimizer, switches, data, (16,), every_size=True)
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        run = (0.0, 0.1, 0.3, 0.45, 0.5, 0.75, 0.8, 0.99, 0.2, 0.9, 0.4)
        try:
            with torch._dynamo.config.patch(error_on_recompile=True):
                for step, (batch, progress) in enumerate(zip(data, run, strict=False)):
                    switches.set(progress, step)
                    pair = []
                    for way in (compiled, plain):
                        pair.append(float(way.add(batch, 16)))
                        net.zero_grad()
                    found.append((pair[0], pair[1]))
        except torch._dynamo.exc.RecompileError as recompiled:
            error = type(recompiled).__name__
        return found, before, torch._dynamo.utils.counters["stats"]["unique_graphs"], error


def compiled_run(tokens: Path, out: Path, compiled: bool) -> tuple[dict[str, float], list[int]]:
    """The metrics of a short run with a recurrence that switches on in it; graphs at every report."""
    gradients.BACKEND = "aot_eager"
    graphs: list[int] = []
    torch._dynamo.utils.counters.clear()

    def report(step: int, metrics: Mapping[str, float]) -> None:
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    made = loop.train(
        tokens, out=out, runtime=Runtime(report=report), seed=0,
        model=small(layers=2, recurrence=Recurrence(first=1, last=1, passes=2, from_fraction=0.5)), optim=Optim(),
        train=Train(budget=Steps(steps=4), batch_tokens=64, context=16, compile=compiled), vocab_size=VOCAB,
        probe=lambda _: 2.0,
    )  # fmt: skip
    return dict(made), graphs


@dataclass(frozen=True)
class Compiled:
    """A run through the real compiler."""

    rounds: list[int]  # roundings in each forward graph, in the order of compilation
    compared: list[int]  # comparisons with zero, by which a sign or a magnitude of zero is told
    weights: dict[str, torch.Tensor]  # of the checkpoint


def compiled_with_the_real_compiler(tokens: Path, out: Path, form: LateQat | None) -> Compiled:
    """A short run of one block whose forward and backward are machine code, and what its graphs hold."""
    from torch._inductor.compile_fx import compile_fx

    rounds: list[int] = []
    compared: list[int] = []

    def backend(graph, inputs):  # type: ignore[no-untyped-def]
        names = [getattr(n.target, "__name__", str(n.target)) for n in graph.graph.nodes]
        rounds.append(names.count("round"))
        compared.append(names.count("gt") + names.count("ge"))
        return compile_fx(graph, inputs)

    gradients.BACKEND = backend
    out.mkdir(parents=True)
    loop.train(
        tokens, out=out, runtime=Runtime(), seed=0, model=small(layers=1), optim=Optim(), vocab_size=VOCAB,
        train=Train(budget=Steps(steps=6), batch_tokens=64, context=16, late_qat=form, compile=True),
        probe=lambda _: 2.0,
    )  # fmt: skip
    return Compiled(rounds, compared, dict(Checkpoint.read(out).weights))
