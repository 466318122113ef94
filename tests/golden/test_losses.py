"""The loss curve of a fixed small run, as it was: a refactor that moves it has changed the meaning.

A loose guard (a thousandth), since processors add floats in different orders. After a change of meaning
that is wanted, run `python -m tests.golden.test_losses` and say why in the commit.
"""

import json
import tempfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).with_name("tiny.json")


def losses(work: Path) -> list[float]:
    """Mean training loss at each of twelve steps, on the synthetic stream of tests/train."""
    from pgolf.data.loader import Windows
    from pgolf.model.ln_scale import LnScale
    from pgolf.optim.ema import Ema
    from pgolf.optim.muon import Muon
    from pgolf.optim.optimizer import Optim, Optimizer
    from pgolf.optim.schedule import Schedule
    from pgolf.runtime import Runtime
    from pgolf.train.gradients import Gradients
    from pgolf.train.objective import Objective
    from tests.nets import VOCAB, small
    from tests.train.conftest import written

    optim = Optim(
        muon=Muon(row_normalize=True, weight_decay=0.05), ema=Ema(window_fraction=0.06), grad_clip=1.0,
        schedule=Schedule(warmup_fraction=0.2, warmdown_fraction=0.6, min_lr=0.05),
    )  # fmt: skip
    network = small(layers=4, ln_scale=LnScale()).build(VOCAB).reset(seed=1)
    optimizer, batches, curve = (
        Optimizer(optim, network, Runtime()),
        iter(Windows(written(work), 16, 16, seed=1)),
        [],
    )
    gradients = Gradients(network, None, Objective(), None, "cpu", rows_at_once=8)
    for step in range(12):
        curve.append(float(gradients.add(next(batches), 16)))
        optimizer.step(step / 12, 1 / 12)
    optimizer.finish()
    return [*curve, float(gradients.add(next(batches), 16))]


def test_losses_are_as_they_were(tmp_path):
    assert losses(tmp_path) == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-3)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        GOLDEN.write_text(json.dumps([round(loss, 4) for loss in losses(Path(work))]) + "\n")
