"""Parts of a problem on several ranks: each on one, the dearest first, and every answer everywhere."""

from dataclasses import dataclass, field

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from pgolf.model.roles import Role
from pgolf.quantize import problem as problems
from pgolf.quantize.problem import Problem, batches
from pgolf.quantize.sharing import Shared
from pgolf.quantize.statistics import Statistics
from pgolf.runtime import Runtime

COSTS = st.lists(st.floats(0, 100), max_size=12)


@dataclass
class Piece:
    name: str
    cost: float
    prepared: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        self.prepared.append(self.name)


def shared(costs: list[float], rank: int, world: int) -> Shared[Piece]:
    return Shared(Runtime(rank=rank, world_size=world), [Piece(f"p{i}", c) for i, c in enumerate(costs)])


@given(costs=COSTS, world=st.integers(1, 5))
def test_every_part_is_prepared_once_on_one_rank(costs, world):
    plans = [shared(costs, rank, world) for rank in range(world)]
    names = [part.name for plan in plans for part in plan.own]
    assert sorted(names) == sorted(f"p{i}" for i in range(len(costs)))
    assert all(part.prepared == [part.name] for plan in plans for part in plan.own)


@given(costs=COSTS, world=st.integers(1, 5))
def test_no_rank_has_a_whole_part_more_than_another(costs, world):
    """Longest processing time first: the fullest rank is within its least part of the emptiest."""
    loads = [[part.cost for part in shared(costs, rank, world).own] for rank in range(world)]
    fullest = max(loads, key=sum)
    assert sum(fullest) - min(map(sum, loads)) <= min(fullest, default=0) + 1e-9


def test_a_rank_alone_has_all_parts_in_their_order():
    assert [part.name for part in shared([1, 3, 2], 0, 1).own] == ["p0", "p1", "p2"]
    assert shared([1, 3, 2], 0, 1).each(lambda p: {p.name: p.cost}) == {"p0": 1, "p1": 3, "p2": 2}


def test_answers_are_gathered_from_every_rank(monkeypatch):
    def gathered(boxes, mine):
        boxes[:] = [{"p1": 3}, mine]

    monkeypatch.setattr(dist, "all_gather_object", gathered)
    second = shared([1, 3, 2], 1, 2)
    assert [p.name for p in second.own] == ["p0", "p2"], "the dearest went to rank 0"
    assert second.each(lambda p: {p.name: p.cost}) == {"p0": 1, "p1": 3, "p2": 2}


def several(*entries: tuple[str, int, int, Role]) -> Problem:
    weights = {name: torch.zeros(rows, cols) for name, rows, cols, _ in entries}
    return Problem(weights, {name: role for name, _, _, role in entries}, Statistics(), lambda _: 0, 0)


def test_what_is_solved_together_has_one_shape_one_role_and_the_same_statistics():
    p = several(
        ("a", 2, 3, Role.MLP), ("b", 3, 2, Role.MLP), ("c", 2, 3, Role.MLP), ("d", 2, 3, Role.ATTENTION)
    )
    assert batches(p, p.weights) == [["a", "c"], ["b"], ["d"]]
    known = Statistics(hessians={"c": torch.eye(3)})
    assert batches(Problem(p.weights, p.roles, known, p.measure, 0), p.weights) == [
        ["a"],
        ["b"],
        ["c"],
        ["d"],
    ]
    full = Statistics(full={"a": torch.eye(2)})
    assert batches(Problem(p.weights, p.roles, full, p.measure, 0), p.weights) == [["a"], ["b"], ["c"], ["d"]]
    assert batches(p, ["c"]) == [["c"]]


@pytest.mark.parametrize(
    ("most", "sizes"), [(6, [1] * 5), (12, [2, 2, 1]), (17, [2, 2, 1]), (100, [5]), (1, [1] * 5)]
)
def test_no_more_weights_are_solved_together_than_may_be(monkeypatch, most, sizes):
    monkeypatch.setattr(problems, "MOST_WEIGHTS", most)
    p = several(*[(f"m{i}", 2, 3, Role.MLP) for i in range(5)])
    assert [len(names) for names in batches(p, p.weights)] == sizes
