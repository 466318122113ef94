"""Statistics of every matrix from training text, on the train clock; or from text that the model writes itself.

    A = sum over executions of E[x x^T],   x the matrix's input

collected from the float model with documents masked as in training. The tied table is treated as the
output matrix: its inputs are the final norm's outputs. `fisher` adds what outputs and look-ups are worth to the
loss (pgolf.quantize.statistics), from backward passes with labels sampled from the model. Touching training data
ends here, and so does `train_seconds`.

Rows are shared among the ranks and their sums added up, so the statistics are those of one rank.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from pgolf.data.loader import Windows
from pgolf.formats.checkpoint import Checkpoint
from pgolf.model.gpt import Gpt, assemble
from pgolf.model.linear import Linear
from pgolf.model.roles import Role
from pgolf.quantize.self_generated import SelfGenerated
from pgolf.quantize.statistics import RARE, Statistics
from pgolf.runtime import Clock, Runtime
from pgolf.section import RuleBroken, Section
from pgolf.stage import Metrics, Stage

ROWS = 16
TABLE = "embedding.weight"
ELSEWHERE = 1_000_003  # added to the training seed: other windows than its order's

Rows = tuple[Int[Tensor, "rows time"], Bool[Tensor, "rows time"]]


class TrainingText(Section):
    kind: Literal["training_text"] = "training_text"


class Fisher(Section):
    """Backward passes for the rate-distortion solver: one a row of `context` tokens."""

    tokens: int = Field(16_384, ge=1)
    full: bool = False  # also whole output covariances, for the two-sided form


class Calibrate(Section):
    tokens: int = Field(65_536, ge=1)
    context: int = Field(1024, ge=2)
    source: Annotated[TrainingText | SelfGenerated, Field(discriminator="kind")] = TrainingText()
    fisher: Fisher | None = None

    @model_validator(mode="after")
    def _within(self) -> "Calibrate":
        if self.fisher is not None and self.fisher.tokens > self.tokens:
            raise RuleBroken(
                "the Fisher information is measured on calibration text",
                f"fisher.tokens={self.fisher.tokens}, tokens={self.tokens}",
                f"fisher.tokens={self.tokens} at most",
            )
        return self


def _calibrate(
    checkpoint: Path, tokens: Path, *, out: Path, runtime: Runtime, seed: int, calibrate: Calibrate
) -> Metrics:
    trained = Checkpoint.read(checkpoint)
    network = assemble(trained.model, trained.vocab_size, trained.weights, runtime.device)
    count = max(calibrate.tokens // calibrate.context, 1)
    clock = Clock()
    with clock:
        own = list(range(count))[runtime.rank :: runtime.world_size]
        rows = _rows(calibrate, network, tokens, seed, count, own)
        sums = _moments(network, rows, runtime)
        hessians = {name: gram / (count * calibrate.context) for name, gram in sums.items()}
        statistics = Statistics(hessians)
        if calibrate.fisher is not None:
            used = max(calibrate.fisher.tokens // calibrate.context, 1)
            mine = [(at, row) for at, row in enumerate(own) if row < used]
            statistics = _fisher(network, rows, mine, used, seed, calibrate.fisher, hessians, runtime)
    if runtime.leads:
        statistics.write(out)
    on_train_clock = isinstance(calibrate.source, TrainingText)
    return {
        "train_seconds": clock.seconds if on_train_clock else 0.0,
        "calibrate_seconds": clock.seconds,
        "tokens": count * calibrate.context,
    }


def _rows(calibrate: Calibrate, network: Gpt, tokens: Path, seed: int, count: int, own: list[int]) -> Rows:
    """This rank's share of the calibration text."""
    if isinstance(calibrate.source, SelfGenerated):
        return calibrate.source.rows(network, [seed + ELSEWHERE + row for row in own], calibrate.context)
    batch = next(iter(Windows(tokens, calibrate.context, count, seed + ELSEWHERE)))
    return batch.tokens[own], batch.starts[own]


def _moments(network: Gpt, rows: Rows, runtime: Runtime) -> dict[str, Float[Tensor, "cols cols"]]:
    """Sums of x x^T over all ranks' rows, by matrix."""
    sums: dict[str, Tensor] = {}

    def see(name: str, x: Float[Tensor, "*batch inputs"]) -> None:
        flat = x.detach().flatten(0, -2).float()
        gram = flat.T @ flat
        sums[name] = sums[name] + gram if name in sums else gram

    with torch.inference_mode(), network.observed(see):
        for at in range(0, len(rows[0]), ROWS):
            network(*(t[at : at + ROWS].to(runtime.device) for t in rows))
    # a rank without rows has seen nothing: the names are rank 0's, which has a row if anybody has
    names = runtime.agree([(name, list(gram.shape)) for name, gram in sorted(sums.items())])
    assert isinstance(names, list)
    return {
        name: _added(sums.get(name, torch.zeros(shape, device=runtime.device)), runtime).cpu()
        for name, shape in names
    }


def _added(x: Tensor, runtime: Runtime) -> Tensor:
    """The sum of the ranks' tensors."""
    if runtime.world_size > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


class _Outputs:
    """Sums over tokens of the outputs' gradients: squares, or whole products."""

    def __init__(self, network: Gpt, full: bool) -> None:
        self.full = full
        parameters = dict(network.named_parameters())
        zeros = {n: parameters[f"{n}.weight"] for n, m in network.named_modules() if isinstance(m, Linear)}
        self.sums = {
            f"{name}.weight": w.new_zeros((len(w), len(w)) if full else (len(w),))
            for name, w in zeros.items()
        }
        self.lookup = parameters[TABLE].new_zeros(parameters[TABLE].shape[1], parameters[TABLE].shape[1])

    @contextmanager
    def watching(self, network: Gpt) -> Iterator[None]:
        """For the block's duration, every backward pass adds to the sums."""
        handles = [network.embedding.register_forward_hook(self._looked_up)]
        for name, module in network.named_modules():
            if isinstance(module, Linear):
                handles.append(module.register_forward_hook(self._hook(f"{name}.weight")))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str):  # type: ignore[no-untyped-def]
        def add(gradient: Tensor) -> None:
            flat = gradient.detach().flatten(0, -2).float()
            self.sums[name] += flat.T @ flat if self.full else flat.square().sum(0)

        def hook(_: object, __: object, out: Tensor) -> None:
            out.register_hook(add)

        return hook

    def _looked_up(self, module, _, out: Tensor) -> None:  # type: ignore[no-untyped-def]
        def add(gradient: Tensor) -> None:
            flat = gradient.detach().flatten(0, -2).float()
            if module.into is not None:
                flat = flat @ module.into.weight.detach()
            self.lookup += flat.T @ flat

        out.register_hook(add)


def _fisher(
    network: Gpt, rows: Rows, mine: list[tuple[int, int]], used: int, seed: int, fisher: Fisher,
    hessians: dict[str, Tensor], runtime: Runtime,
) -> Statistics:  # fmt: skip
    """`mine`: (place among this rank's rows, number of the row) of those with a backward pass here."""
    outputs = _Outputs(network, fisher.full)
    matrices = {n: p for n, p in network.named_parameters() if _may_be_quantized(network.roles[n])}
    squares = {name: torch.zeros(len(p), device=p.device) for name, p in matrices.items()}
    predicted = torch.zeros(network.vocab_size, device=runtime.device)
    met = torch.zeros(network.vocab_size, device=runtime.device)
    with outputs.watching(network):
        for at, row in mine:
            tokens, starts = (t[at : at + 1].to(runtime.device) for t in rows)
            network.zero_grad()
            raw = network.raw_logits(network.hidden(tokens, starts)).float()
            logits = network.softcapped(raw)
            (slope,) = torch.autograd.grad(logits.sum(), raw, retain_graph=True)
            p = logits.detach().softmax(-1)
            predicted += (p * (1 - p) * slope.square()).sum((0, 1))
            met += torch.bincount(tokens.flatten(), minlength=network.vocab_size)
            draw = torch.Generator().manual_seed(seed + row)
            labels = torch.multinomial(p[0].double().cpu(), 1, generator=draw).flatten().to(runtime.device)
            F.cross_entropy(logits[0], labels, reduction="sum").backward()
            for name, parameter in matrices.items():
                if parameter.grad is not None:
                    squares[name] += parameter.grad.float().square().sum(1)
    network.zero_grad()
    seen = used * rows[0].shape[1]
    out = {name: _added(g, runtime).cpu() / seen for name, g in outputs.sums.items()}
    mean_squares = {name: _added(s, runtime).cpu() / seen for name, s in squares.items()}
    predicted, met, looked = (_added(t, runtime).cpu() / seen for t in (predicted, met, outputs.lookup))
    table = _Table(predicted, met, looked, hessians[TABLE])
    return _scaled(out, mean_squares, table, hessians, network)


def _may_be_quantized(role: Role) -> bool:
    return role.is_matrix or role is Role.GATE


class _Table:
    """The two sides of the tied table in one Hessian and a weight a row."""

    def __init__(self, predicted: Tensor, frequency: Tensor, lookup: Tensor, head: Tensor) -> None:
        frequency = frequency + RARE * frequency.mean()
        rho = frequency.sum() / predicted.sum()
        self.lookup = rho * lookup
        head_trace, lookup_trace = head.trace(), lookup.trace()
        sides = predicted * head_trace + frequency * lookup_trace
        self.rows = sides / (head_trace + rho * lookup_trace)
        self.trace = float(sides.sum())  # what the mean square of the table's gradient should come to


def _scaled(
    out: dict[str, Tensor], mean_squares: dict[str, Tensor], table: _Table, hessians: dict[str, Tensor],
    network: Gpt,
) -> Statistics:  # fmt: skip
    """Factors whose product has the trace of the Fisher that the weights' own gradients show."""
    rows: dict[str, Tensor] = {}
    full: dict[str, Tensor] = {}
    for name, square in mean_squares.items():
        total = float(square.sum())
        if name == TABLE:
            rows[name] = table.rows * (total / table.trace)
        elif name in out:
            g = out[name]
            diagonal = g.diagonal() if g.ndim == 2 else g
            product = float(diagonal.sum()) * float(hessians[name].trace())
            scale = total / product if product > 0 else 0.0
            rows[name] = diagonal * scale
            if g.ndim == 2:
                full[name] = g * scale
        else:
            inputs = (
                float(hessians[name].trace()) if name in hessians else network.get_parameter(name).shape[1]
            )
            rows[name] = square / inputs + RARE * square.mean() / inputs
    return Statistics(hessians, {TABLE: table.lookup}, rows, full)


CALIBRATE = Stage("calibrate", 2, _calibrate, collective=True)
