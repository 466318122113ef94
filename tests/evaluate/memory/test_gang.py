"""Two ranks, each scoring its part of every round, come to what one rank comes to."""

import json

import numpy as np
import pytest

from pgolf.evaluate.ranks import ALONE
from tests.evaluate.memory.gang import work
from tests.train.test_distributed import torchrun

pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("memory-gang")]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    out = tmp_path_factory.mktemp("gang")
    torchrun("tests.evaluate.memory.gang", str(out))
    return json.loads((out / "0.json").read_text())


@pytest.fixture(scope="module")
def alone():
    return work(ALONE)


def test_every_memory_scores_the_same(ranks, alone):
    assert ranks.keys() == alone.keys()
    for name, made in alone.items():
        assert np.allclose(ranks[name]["nll"], made["nll"], rtol=0, atol=1e-9), name
        assert made["rounds"] > 2
        assert ranks[name]["order"] == made["order"] == "stream", name


def test_and_logs_the_same(ranks, alone):
    for name, made in alone.items():
        assert ranks[name]["pos"] == made["pos"], name
        assert ranks[name]["gated"] == made["gated"], name
        assert np.allclose(ranks[name]["beta"], made["beta"], atol=1e-5)
        assert np.allclose(ranks[name]["dloss"], made["dloss"], atol=1e-9)
