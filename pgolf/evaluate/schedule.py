"""Who scores what, and when: rounds, batches of documents that advance in step, and ranks of equal work.

A round's batches are independent of one another, so they may go to any rank in any order; what a round taught is
known from the next round on. A document of n targets in chunks of c takes ceil(n / c) steps, one after the other,
so a batch takes

    steps of its longest document x (OVERHEAD + rows x window)      positions

and the longest batch bounds the clock from below however many ranks there are. Documents of like lengths go
together, as many as keep a batch within its share of the work: few of the longest ones, many short ones. In records
64 documents went into every batch, and one rank spent 80 % of the clock on the batch of the longest 64 while the
others waited (PR 1855). Batches go to ranks longest first, each to the rank with the least work so far (LPT, within
4/3 of the best), so who scores what is known beforehand and is the same every time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgolf.evaluate.predictor import Windows

OVERHEAD = 8192  # positions that a step costs however small it is (kernel launches, the optimizer)
PARTS = 4  # batches a rank should get at least, so that the last ones even out
ALIKE = 0.9  # least share of its batch's steps that a document has


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
    documents: Sequence[int], steps: Sequence[int], widths: Sequence[int], most: int, ranks: int
) -> list[tuple[list[int], float]]:
    """Documents in batches, longest first, with what each costs.

    Args:
        documents: numbers of the documents.
        steps: each document's steps.
        widths: positions of each document's widest window.
        most: documents of a batch.
    """
    order = sorted(range(len(documents)), key=lambda i: (-steps[i], -widths[i], documents[i]))
    alone = [steps[i] * (OVERHEAD + widths[i]) for i in order]
    share = sum(steps[i] * (OVERHEAD / most + widths[i]) for i in order) / (ranks * PARTS)
    cap = max([share, *alone[:1]])
    found: list[tuple[list[int], float]] = []
    at = 0
    while at < len(order):
        first = order[at]
        rows = 1
        while (
            rows < most
            and at + rows < len(order)
            and steps[order[at + rows]] >= ALIKE * steps[first]
            and steps[first] * (OVERHEAD + (rows + 1) * widths[first]) <= cap
        ):
            rows += 1
        members = [documents[i] for i in order[at : at + rows]]
        found.append((members, steps[first] * (OVERHEAD + rows * widths[first])))
        at += rows
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
