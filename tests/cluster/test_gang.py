"""A rank and the verdict over all of them, without Ray."""

import pytest

from cluster.gang import Rank, Verdict, _verdict
from cluster.trainable import Batch
from pgolf.errors import Infeasible
from pgolf.rules import Gang
from tests.cluster.fakes import FakeConfig, result_of


def ran(job):
    rank = Rank(0, Gang(), command="")
    rank.begin()
    return rank.run(job, "env://", None)


@pytest.mark.parametrize("measured", [None, 2.5])
def test_an_infeasible_result_comes_through_the_gang_and_through_tune_as_it_was(measured):
    """A diverged loss has no measurement, and must say so: `measured` is required, and may be None."""
    result = result_of(FakeConfig(), None, [Infeasible(reason="diverged", measured=measured, limit=2.0)])
    verdict = _verdict({0: ran(lambda runtime: result)})
    assert verdict == Verdict("result", result)
    assert Batch.of(Batch([], verdict, 1.0).text()).verdict == verdict
