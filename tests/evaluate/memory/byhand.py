"""What a document's memory may know at a target, by looking: for twins that know no tables."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tests.evaluate.memory.laws import DOCUMENTS
from tests.nets import BOS


def targets(ids: np.ndarray, chunk: int = DOCUMENTS.chunk) -> Iterator[tuple[int, list[int], list[int]]]:
    """Every target, with its document's tokens that were told by then, and those that are its inputs."""
    starts = [*np.flatnonzero(ids == BOS).tolist(), len(ids) - 1]
    for begin, end in pairwise(starts):
        for target in range(begin + 1, end + 1):
            known = target - (target - begin - 1) % chunk
            yield target, ids[begin:known].tolist(), ids[begin:target].tolist()


def followers(known: list[int], inputs: list[int], order: int) -> Counter[int]:
    """What followed the last `order` inputs so far."""
    if order > len(inputs):
        return Counter()
    context = inputs[len(inputs) - order :]
    return Counter(known[i] for i in range(max(order, 1), len(known)) if known[i - order : i] == context)
