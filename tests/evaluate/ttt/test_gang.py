"""Two ranks score and learn what one does."""

import json
from pathlib import Path

import numpy as np
import pytest

from pgolf.evaluate.scorer import score
from tests.evaluate.ttt.cases import COUNTS, MODES, TOKENS, net
from tests.evaluate.ttt.gang import SHARED, told
from tests.train.test_distributed import torchrun

pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("adaptation-gang")]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> dict[str, dict]:
    home: Path = tmp_path_factory.mktemp("gang")
    torchrun("tests.evaluate.ttt.gang", str(home))
    found: dict[str, dict] = json.loads((home / "scores.json").read_text())
    return found


@pytest.mark.parametrize("name", SHARED)
def test_two_ranks_change_nothing(name, two):
    """Documents, windows and what is trained on go to both; the ledger of both was verified."""
    predictor = MODES[name].predictor(net())
    trained = told(predictor)
    one = score(predictor, TOKENS, COUNTS, MODES[name]).verify()
    assert two[name]["ranks"] == (1 if name == "stream" else 2), "the short stream's windows fit one batch"
    assert np.isclose(two[name]["bpb"], one.bpb, atol=1e-6, rtol=0)
    assert np.allclose(two[name]["nll"], one.nll, atol=1e-4, rtol=0)
    assert sum(two[name]["trained"]) == sum(trained), "no target twice, none left out"
    assert all(two[name]["trained"]) == bool(trained), "both take their part"
    assert two[name]["order"] == one.audit().order
    assert two[name]["update_tokens"] == one.audit().update_tokens
