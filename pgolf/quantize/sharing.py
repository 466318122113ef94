"""Parts of a problem shared among the ranks of a gang: each part on one rank, every answer on all of them."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, runtime_checkable

from pgolf.runtime import Runtime

T = TypeVar("T")


@runtime_checkable
class Part(Protocol):
    """Something to be worked on by one rank."""

    @property
    def cost(self) -> float:
        """How long it takes, in any unit."""

    def prepare(self) -> None:
        """What is worked out once, on the rank that has it."""


P = TypeVar("P", bound=Part)


class Shared(Generic[P]):
    """The dearest part first, each to the rank with the least to do: the same plan on every rank."""

    def __init__(self, runtime: Runtime, parts: list[P]) -> None:
        self.runtime = runtime
        loads = [0.0] * runtime.world_size
        own = []
        for at in sorted(range(len(parts)), key=lambda i: -parts[i].cost):
            rank = loads.index(min(loads))
            loads[rank] += parts[at].cost
            if rank == runtime.rank:
                own.append(at)
        self.own = [parts[at] for at in sorted(own)]
        for part in self.own:
            part.prepare()

    def each(self, work: Callable[[P], dict[str, T]]) -> dict[str, T]:
        """The answers of all parts in one mapping, on every rank."""
        found: dict[str, T] = {}
        for part in self.own:
            found |= work(part)
        return {name: answer for of in self.runtime.gather(found) for name, answer in of.items()}
