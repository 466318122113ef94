"""The training clock of several ranks starts when the last of them is ready."""

import json

import pytest

from tests.train.late_rank import LATE_SECONDS
from tests.train.test_distributed import torchrun


@pytest.mark.heavy
def test_a_rank_that_compiles_for_longer_costs_no_training_time(tokens, tmp_path):
    """Rank 0 waits for it, and not in its first step."""
    torchrun("tests.train.late_rank", str(tokens), str(tmp_path))
    clocks = [json.loads((tmp_path / f"{rank}.json").read_text())["train_seconds"] for rank in (0, 1)]
    assert max(clocks) < LATE_SECONDS
