"""A model of every role, without a forward: gradients are drawn for each row of the global batch, and lean on
the weights, so that ranks which drift apart drift further."""

import zlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pgolf.model.roles import Role
from pgolf.optim.optimizer import Optim, Optimizer
from pgolf.runtime import Runtime

ROWS = 6  # of the global batch: shared evenly by one, two and three ranks
ONE_SIDED = 2  # only the first rows have a gradient for `one_sided`: on other ranks it is None
LATE = 10  # from this step on the `late` parameters have gradients

SHAPES: dict[str, tuple[Role, tuple[int, ...]]] = {
    **{f"query{i}": (Role.ATTENTION, (6, 4)) for i in range(3)},
    "up": (Role.MLP, (12, 4)),
    "late_down": (Role.MLP, (6, 4)),
    "adapters": (Role.PROJECTION, (2, 4, 6)),
    "one_sided": (Role.PROJECTION, (5, 5)),
    "embedding": (Role.EMBEDDING, (8200, 4)),  # more than are averaged together with others
    "hashed": (Role.TABLE, (9, 3)),
    "gain": (Role.CONTROL, (7,)),
    "late_gain": (Role.CONTROL, (3,)),
    "lam": (Role.CONTROL, ()),
    "gate": (Role.GATE, (2, 5)),
}


class Toy(nn.Module):
    """Parameters of every role but the heads'."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name, (_, shape) in SHAPES.items():
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            self.register_parameter(name, nn.Parameter(drawn))
        self.roles = {name: role for name, (role, _) in SHAPES.items()}


class Heads(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((9, 3), 0.5, dtype=dtype))


def named(toy: Toy, heads: Heads | None) -> Iterator[tuple[str, nn.Parameter]]:
    yield from toy.named_parameters()
    if heads is not None:
        yield "head", heads.weight


def gradient(name: str, p: Tensor, step: int, rows: range) -> Tensor | None:
    """The mean over some rows of the batch, None where none of them has one."""
    if name.startswith("late") and step < LATE:
        return None
    if name == "one_sided" and rows.start >= ONE_SIDED:
        return None
    total = torch.zeros_like(p)
    for row in rows:
        if name == "one_sided" and row >= ONE_SIDED:
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {step} {row}".encode()))
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        total += noise + 0.3 * p.detach()
    return total / len(rows)


def rows_of(rank: int, ranks: int) -> range:
    share = ROWS // ranks
    return range(rank * share, (rank + 1) * share)


def train(
    section: Optim, runtime: Runtime, steps: int = 20, dtype: torch.dtype = torch.float64
) -> tuple[dict[str, Tensor], Tensor, Optimizer]:
    """Every parameter after `steps` steps and finishing, what rode along [steps, 2], and the optimizer."""
    toy, heads = Toy(dtype=dtype), Heads(dtype)
    optimizer = Optimizer(section, toy, runtime, heads)
    rows, rides = rows_of(runtime.rank, runtime.world_size), []
    for step in range(steps):
        for name, p in named(toy, heads):
            p.grad = gradient(name, p, step, rows)
        loss = torch.tensor([sum(r * r for r in rows) / len(rows), float(runtime.rank == 0)], dtype=dtype)
        told = optimizer.step(step / steps, 1 / steps, loss, lr_factor=min((step + 1) / 3, 1.0))
        assert told is not None
        rides.append(told.clone())
    optimizer.finish()
    return {name: p.detach().clone() for name, p in named(toy, heads)}, torch.stack(rides), optimizer
