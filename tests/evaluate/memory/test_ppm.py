"""PPM against coding one token after the other's definition, exclusion included."""

import numpy as np
import pytest

from pgolf.evaluate.memory.ppm import Ppm
from tests.evaluate.memory.byhand import followers, targets
from tests.evaluate.memory.laws import DOCUMENTS, MemoryLaws, drive, table, text

P = np.array([0.3, 0.1, 0.15, 0.15, 0.2, 0.1])


class TestPpm(MemoryLaws):
    SECTIONS = (Ppm(orders=(1, 2, 3)), Ppm(orders=(1, 3), gate=None), Ppm(orders=(2, 4), method="c"))


def by_escapes(section: Ppm, known: list[int], inputs: list[int]) -> np.ndarray:
    out, left, offered = np.zeros(len(P)), 1.0, set()
    for order in sorted(section.orders, reverse=True):
        came = {y: c for y, c in followers(known, inputs, order).items() if y not in offered}
        if not came:
            continue
        offered |= came.keys()
        c, u = sum(came.values()), len(came)
        shares = {y: n / (c + u) if section.method == "c" else (2 * n - 1) / (2 * c) for y, n in came.items()}
        if len(offered) == len(P):  # nothing is left to escape to
            shares = {y: s / sum(shares.values()) for y, s in shares.items()}
        for y, share in shares.items():
            out[y] = left * share
        left *= max(1 - sum(shares.values()), 0.0)
    rest = [y for y in range(len(P)) if y not in offered]
    for y in rest:
        out[y] = left * P[y] / P[rest].sum()
    return out


@pytest.mark.parametrize("method", ["c", "d"])
@pytest.mark.parametrize("orders", [(1,), (1, 2), (2, 3, 5)])
def test_it_is_escaping_from_context_to_context(method, orders):
    """On an alphabet so small that contexts come to offer all of it."""
    section, ids = Ppm(orders=orders, method=method, gate=None), text(4, 240, vocab=6)
    got = np.exp(drive(section.build(table(P)), ids, DOCUMENTS).answers)
    for target, known, inputs in targets(ids):
        assert np.allclose(got[target], by_escapes(section, known, inputs), rtol=1e-9)


def test_where_everything_was_offered_nothing_escapes():
    """After 2 came every token of three (0 and 1 among them)."""
    ids = np.array([1, 2, 0, 2, 2, 2, 1, 2, 0, 2, 0])
    got = np.exp(
        drive(Ppm(orders=(1,), gate=None).build(table([0.2, 0.3, 0.5])), ids, DOCUMENTS.but(chunk=40)).answers
    )
    assert np.abs(got[1:].sum(1) - 1).max() < 1e-12
