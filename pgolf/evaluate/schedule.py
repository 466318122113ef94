"""Who scores what, and when: rounds, batches of documents that advance in step, and ranks of equal work.

A round's batches are independent of one another, so they may go to any rank in any order; what a round taught is
known from the next round on. A document of n targets in chunks of c takes ceil(n / c) steps, one after the other, in
windows that grow to the context. So a batch takes

    steps of its longest document x OVERHEAD_POSITIONS + positions of all its documents' windows

Who shares a batch decides the first term alone, and batches of as many as fit, longest documents first, keep it
least. But the longest batch bounds the clock from below however many ranks there are: in records 64 documents went
into every batch, and one rank held the batch of the longest 64 for a third of the clock while the others waited for
the round's end (PR 1855). So batches that cost more than some cap get fewer documents, with the cap that makes the
round shortest. Batches go to ranks longest first, each to the rank with the least work so far (LPT, within 4/3 of
the best), so who scores what is known beforehand and is the same every time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgolf.evaluate.predictor import Windows

OVERHEAD_POSITIONS = (
    36_000  # positions that a step costs however small it is: on an H100 (benchmarks.gpu_evaluation)
)
LOWER = 0.9  # the next cap that is tried, as a share of the one before


@dataclass(frozen=True)
class Step:
    """Windows that are asked for together: of a stream, or one of each document that still goes on."""

    windows: Windows  # [rows, 3]
    slots: tuple[int, ...] = ()  # the rows' places in the batch
    ends: tuple[bool, ...] = ()  # whether a row's document ends here


@dataclass(frozen=True)
class Batch:
    """Steps in order. `documents` are opened together; () where the stream is not cut into documents."""

    documents: tuple[int, ...]
    steps: list[Step]
    cost: float  # positions, relative to other batches


Round = list[Batch]


def grouped(
    documents: Sequence[int], steps: Sequence[int], positions: Sequence[int], most: int, ranks: int
) -> list[tuple[list[int], float]]:
    """Documents in batches, longest first, with what each costs.

    Args:
        documents: numbers of the documents.
        steps: each document's steps.
        positions: of each document's windows, all together.
        most: documents of a batch.
    """
    order = sorted(range(len(documents)), key=lambda i: (-steps[i], -positions[i], documents[i]))
    sorted_steps, work = np.array([steps[i] for i in order]), np.array([positions[i] for i in order])
    made = _packed(sorted_steps, work, most, math.inf)
    best = makespan([cost for *_, cost in made], ranks), made
    cap, least = max(cost for *_, cost in made), float((OVERHEAD_POSITIONS * sorted_steps + work).max())
    while (cap := cap * LOWER) > least * LOWER:
        made = _packed(sorted_steps, work, most, cap)
        best = min(best, (makespan([cost for *_, cost in made], ranks), made), key=lambda found: found[0])
    return [([documents[i] for i in order[begin:end]], cost) for begin, end, cost in best[1]]


def _packed(
    steps: NDArray[np.int64], work: NDArray[np.int64], most: int, cap: float
) -> list[tuple[int, int, float]]:
    """Batches (begin, end, cost) of sorted documents that cost no more than `cap`, but for those of one."""
    done, at, found = np.append(0, work.cumsum()), 0, []
    while at < len(steps):
        begun = OVERHEAD_POSITIONS * float(steps[at])
        fitting = int(np.searchsorted(done, done[at] + cap - begun, side="right")) - 1
        end = max(min(fitting, at + most, len(steps)), at + 1)
        found.append((at, end, begun + float(done[end] - done[at])))
        at = end
    return found


def shares(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """For each rank the numbers of its batches, longest first; the makespan is within 4/3 of the best."""
    load = np.zeros(ranks)
    found: list[list[int]] = [[] for _ in range(ranks)]
    for number in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        rank = int(load.argmin())
        found[rank].append(number)
        load[rank] += costs[number]
    return found


def makespan(costs: Sequence[float], ranks: int) -> float:
    """What the rank with the most work has to do."""
    return max(sum(costs[i] for i in own) for own in shares(costs, ranks))


def cut(ends: NDArray[np.int64], wanted: Sequence[int]) -> list[int]:
    """Where rounds end among `ends` (targets scored after each unit): at the first end from each wanted one on."""
    found = {int(np.searchsorted(ends, w)) + 1 for w in wanted if 0 < w <= ends[-1]}
    return sorted({*found, len(ends)})
