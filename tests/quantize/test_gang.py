"""Two ranks under torchrun come to the statistics, the matrices and the artifacts of one."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import torch

from pgolf.formats.checkpoint import Checkpoint
from pgolf.quantize.calibrate import CALIBRATE
from pgolf.quantize.statistics import Statistics
from pgolf.runtime import Runtime
from pgolf.stage import RECORD
from tests.nets import VOCAB, everything, network
from tests.quantize.gang import CALIBRATIONS, QUANTIZERS, TARGET, work
from tests.train.conftest import written
from tests.train.test_distributed import torchrun

pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("quantize-gang")]


@dataclass(frozen=True)
class Done:
    alone: dict[str, str]
    ranks: list[dict[str, str]]
    home: Path

    def published(self, who: str) -> dict[str, dict]:
        """By digest: the record of everything in a store, with where it lies."""
        records = {}
        for file in (self.home / who / "store").glob(f"*/*/{RECORD}"):
            record = json.loads(file.read_text())
            records[record["digest"]] = record | {"at": file.parent}
        return records


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Done:
    home = tmp_path_factory.mktemp("gang")
    for name in ("tokens", "checkpoint", "statistics", "one", "two"):
        (home / name).mkdir()
    written(home / "tokens")
    net = network(everything("looped"), std=0.2)
    weights = {n: p.detach() for n, p in net.named_parameters()}
    Checkpoint(net.config.plain(), VOCAB, weights).write(home / "checkpoint")
    given = home / "checkpoint", home / "tokens"
    CALIBRATE.run(*given, out=home / "statistics", runtime=Runtime(), seed=3, calibrate=CALIBRATIONS["text"])
    paths = home / "tokens", home / "checkpoint", home / "statistics"
    alone = work(*paths, home / "one", Runtime())
    torchrun("tests.quantize.gang", *map(str, paths), str(home / "two"))
    return Done(alone, [json.loads((home / "two" / f"{rank}.json").read_text()) for rank in (0, 1)], home)


def test_every_rank_is_handed_the_artifact_that_rank_0_published(done):
    assert done.ranks[0] == done.ranks[1]
    assert done.ranks[0].keys() == CALIBRATIONS.keys() | QUANTIZERS.keys()
    published = done.published("two")
    assert set(done.ranks[0].values()) - {"artifact_bytes"} == published.keys()


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_two_ranks_come_to_the_statistics_of_one(done, name):
    """Sums of other parts of the rows: equal up to the order of float32 additions. One row leaves a rank idle."""
    one = Statistics.read(done.published("one")[done.alone[name]]["at"])
    two = Statistics.read(done.published("two")[done.ranks[0][name]]["at"])
    for part in fields(Statistics):
        ours, theirs = getattr(one, part.name), getattr(two, part.name)
        assert ours.keys() == theirs.keys()
        for key, t in ours.items():
            room = 1e-5 * float(t.abs().max())
            torch.testing.assert_close(theirs[key], t, rtol=1e-4, atol=room, msg=f"{part.name} {key}")
    assert one.rows and (name != "text" or one.full)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_two_ranks_come_to_the_matrices_of_one_bit_for_bit(done, name):
    assert done.ranks[0][name] == done.alone[name], "the digest of codes, layout, report"


def test_a_target_that_nothing_meets_stops_both_ranks_with_the_same_outcome(done):
    assert done.alone["too_small"] == "artifact_bytes"
    assert [rank["too_small"] for rank in done.ranks] == ["artifact_bytes"] * 2


def test_the_target_was_one_that_leaves_a_choice(done):
    """Else equal matrices would be no news."""
    from pgolf.formats.quantized import QuantizedModel
    from pgolf.pack.stage import packed_bytes
    from tests.quantize.gang import PACK

    for name in ("fisher_grid", "fisher_rows", "type_clips", "lqer"):
        model = QuantizedModel.read(done.published("two")[done.ranks[0][name]]["at"])
        assert 0.9 * TARGET < packed_bytes(model, PACK) <= TARGET
    others = QUANTIZERS.keys() - {"lqer"}  # which may find that no correction is worth its bytes
    assert len({done.alone[n] for n in others}) == len(others)
