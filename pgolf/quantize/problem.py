"""What a quantizer is given, and what every quantizer does: all matrices of a network at once.

A quantizer that solves for a byte target has to see them together, and one that does not is a loop. Quantizers
compose by holding one another: the outer one asks the inner one first and improves on its answer.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from pgolf.formats.quantized import Matrix
from pgolf.model.roles import Role
from pgolf.quantize.statistics import Statistics
from pgolf.runtime import Runtime
from pgolf.section import Section

Matrices = dict[str, Matrix]
Finish = Callable[
    [Matrices, float | None], Matrices
]  # what is done to an answer, at a price a byte if there is one
TOLERANCE, TOLERANCE_BYTES = 0.0005, 1000  # of a byte target; what may be left of it
MOST_WEIGHTS = 1 << 22  # solved together: enough to batch small matrices, little enough to share and to hold


@dataclass(frozen=True)
class Problem:
    """The weights that may be quantized, and what is known about them."""

    weights: Mapping[str, Float[Tensor, "rows cols"]]  # float32, in the network's order
    roles: Mapping[str, Role]
    statistics: Statistics
    measure: Callable[[Matrices], int]  # bytes of the artifact with these matrices, code and all
    target_bytes: int  # of the artifact, code and all
    runtime: Runtime = field(default_factory=Runtime)


class QuantizerSection(Section):
    """Base of the choices in `Quantizer`."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """What it wants measured: any of HESSIANS, FISHER, FULL_FISHER (pgolf.quantize.statistics)."""

    @property
    def solves_for_bytes(self) -> bool:
        """Whether the byte target decides the result."""
        return False

    def expected_artifact_bytes(self, least: int, cap: int) -> int:
        """Of an artifact that comes to `least` by `expected_bits`, code and all, under this cap."""
        return least

    @abstractmethod
    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        """What a matrix is expected to cost after entropy coding, steps included: for the cost model.

        Of a quantizer that solves for bytes, which spends what it is given, this is the least it can do with.
        """

    @abstractmethod
    def quantize_all(self, problem: Problem, finish: Finish | None = None) -> Matrices:
        """Every matrix that it does not leave in float16, by name, in the network's order.

        `finish` is what an outer quantizer does to an answer. One that solves for bytes applies it before it
        measures, and says at what price (nats a token and byte) it would buy.
        """


def spare_bytes(target: int) -> int:
    """What one that solves for bytes may leave of its target."""
    return min(max(int(target * TOLERANCE), 8), TOLERANCE_BYTES)


def batches(problem: Problem, names: Iterable[str]) -> list[list[str]]:
    """Names in groups that can be solved together: one shape, one role, the same statistics."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in names:
        s, w = problem.statistics, problem.weights[name]
        key = (tuple(w.shape), problem.roles[name], name in s.hessians, name in s.full)
        groups.setdefault(key, []).append(name)
    out = []
    for members in groups.values():
        at_once = max(MOST_WEIGHTS // max(problem.weights[members[0]].numel(), 1), 1)
        out += [members[at : at + at_once] for at in range(0, len(members), at_once)]
    return out
