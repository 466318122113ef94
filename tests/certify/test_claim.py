"""Claims of others: read by the keys that records use, tried out, and refused with a way out where they are wrong."""

import json

import numpy as np
import pytest

from pgolf.certify.checks import examine
from pgolf.certify.claim import SAY_NOTHING, Claim
from pgolf.certify.dossier import Dossier
from pgolf.certify.perturb import Probe
from pgolf.errors import ConfigError, DataError, StoreError
from pgolf.formats.arrays import write_arrays
from pgolf.formats.shards import write_shard
from tests.cheats.predictors import shards
from tests.cheats.zoo import COUNTS, IDS

PREDICTOR = """
import torch
from pgolf.evaluate.neural import Plain

def predictor(artifact, vocab_size):
    table = torch.frombuffer(bytearray(artifact.read_bytes()), dtype=torch.float32).reshape(vocab_size, vocab_size)
    return Plain(lambda tokens, starts: table[tokens])

nothing = 3

def other(artifact, vocab_size):
    return table
"""
EVALUATOR = """
import numpy as np

def evaluate(tokens, counts):
    nll = np.full(len(tokens), np.log(24.0))
    nll[0] = 0.0
    return nll
"""
PROBE = Probe(tokens=80, places=10, sums=100, tried=50)


@pytest.fixture
def folder(tmp_path):
    shards(tmp_path)
    (tmp_path / "mine.py").write_text(PREDICTOR)
    (tmp_path / "loop.py").write_text(EVALUATOR)
    rng = np.random.default_rng(0)
    (tmp_path / "model.bin").write_bytes(rng.standard_normal((24, 24)).astype(np.float32).tobytes())
    return tmp_path


def read(folder, **keys) -> Dossier:
    (folder / "claim.json").write_text(json.dumps(keys))
    return Dossier.read(folder / "claim.json", PROBE)


MINE = {
    "tokens": "shards", "artifact": "model.bin", "predictor": "mine.py:predictor", "code": ["mine.py"],
    "evaluate": {"kind": "sliding", "context": 16, "stride": 8}, "vocab_size": 24,
}  # fmt: skip


def test_a_predictor_of_others_is_tried_out_and_cleared(folder):
    verdicts = {v.rule: v for v in examine(read(folder, **MINE))}
    assert [v.evidence for v in verdicts.values() if v.convicts] == []
    assert verdicts["L13"].holds is None, "how its artifact came about nobody saw"
    assert {
        "L1",
        "L2",
        "L3",
        "L4",
        "L5",
        "L6",
        "L7",
        "L12",
        "L14",
        "L16",
        "L17",
        "L19",
        "L20",
        "X1",
    } <= {rule for rule, v in verdicts.items() if v.holds}
    size = (folder / "model.bin").stat().st_size + (folder / "mine.py").stat().st_size
    assert verdicts["L14"].measured["bytes_total"] == size


def test_an_evaluator_of_others_is_tried_out_and_cleared(folder):
    found = read(folder, tokens="shards", evaluator="loop.py:evaluate", vocab_size=24, code=["loop.py"])
    verdicts = {v.rule: v.holds for v in examine(found)}
    assert False not in verdicts.values()
    assert verdicts["L1"] and verdicts["L3"] and verdicts["L20"]
    assert verdicts["L4"] is None


def test_a_records_own_submission_is_a_claim(folder):
    """Keys of section 10.2 of the reference, as merged records write them."""
    found = read(
        folder, author="A", github_id="a", name="n", date="2026-04-27", track="track_10min_16mb", blurb="b",
        val_bpb=1.06108, val_loss=2.3219, val_bpb_std=0.0009, seeds=[42, 0, 1234], bytes_total=15_907_550,
        bytes_code=24_000, hardware="8xH100 80GB SXM", technique_summary="...", compliance={"no_slot": True},
        seed_results={
            "42": {"val_bpb": 1.05989, "artifact_bytes": 15_897_259, "eval_time_s": 508.8, "steps": 4945},
            "0": {"val_bpb": 1.06125, "artifact_bytes": 15_900_947},
            "1234": {"val_bpb": 1.06210, "artifact_bytes": 15_907_550},
        },
    )  # fmt: skip
    assert [s.seed for s in found.seeds] == [42, 0, 1234]
    assert found.reported.artifact_bytes == 15_907_550
    assert found.official
    assert not [v.evidence for v in examine(found) if v.convicts]


def test_seeds_come_as_maps_lists_and_numbers():
    def seeds(folder, **keys):
        return [(s.seed, s.bpb) for s in read(folder, **keys).seeds]

    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        assert seeds(home, seed_results={"seed_42": 1.5, "7": {"val_bpb": 1.6}}) == [(42, 1.5), (7, 1.6)]
        assert seeds(home, seeds=[{"seed": 3, "val_bpb": 1.1}, {"seed": 4}]) == [(3, 1.1), (4, None)]
        assert seeds(home, seeds=[1, 2]) == [(1, None), (2, None)]


def test_a_ledger_and_configs_come_from_files(folder):
    write_arrays(folder / "ledger.npz", {"events": np.zeros((0, 11), np.int64), "nll": np.zeros(3)})
    (folder / "log.txt").write_text("matrix_lr: 0.02\nseed: 1\nno setting here\n")
    found = read(
        folder, ledger="ledger.npz", config="log.txt", baseline_config={"matrix_lr": "0.02", "seed": 2}
    )
    assert found.nll is not None
    assert found.config == {"matrix_lr": "0.02", "seed": "1"}
    assert [v.rule for v in examine(found) if v.convicts] == ["L6", "X3"]


@pytest.mark.parametrize(("keys", "says"), [
    ({"val_bbp": 1.0}, ["no key `val_bbp`", "val_bpb"]),
    ({"val_tokens": "many"}, ["val_tokens", "integer"]),
    ({"artifact": "gone.bin"}, ["gone.bin", "relative to the claim"]),
    ({"code": ["gone.py"]}, ["gone.py"]),
    ({"predictor": "mine.py:predictor", "tokens": "shards"}, ["no key `evaluate`", '"kind"']),
    ({"predictor": "mine.py:predictor", "tokens": "shards", "evaluate": {"kind": "sliding", "context": 8, "stride": 4,
      "ttt": {"kind": "stream_sgd"}}}, ["by its own code", "ttt or memory"]),
    ({"evaluator": "loop.py:evaluate"}, ["no key `tokens`"]),
    ({**MINE, "predictor": "mine.py"}, ["file.py:function"]),
    ({**MINE, "predictor": "gone.py:f"}, ["gone.py"]),
    ({**MINE, "evaluate": {"kind": "slidign"}}, ["no such kind", "sliding"]),
    ({"seed_results": {"first": {"val_bpb": 1.0}}}, ["by seed, a whole number"]),
    ({"seed_results": {"1": {"val_bbp": 1.0}}}, ["no key `val_bbp`", "val_bpb"]),
    ({"config": "gone.json"}, ["gone.json"]),
    ({"probe": {"token": 3}}, ["probe.token", "tokens"]),
    ({"opened": [{"file": "x", "stage": "training"}]}, ["stage"]),
], ids=lambda v: None if isinstance(v, dict) else v[0])  # fmt: skip
def test_what_is_wrong_is_refused_with_a_way_out(keys, says, folder):
    with pytest.raises((ConfigError, DataError)) as refused:
        read(folder, **keys)
    assert all(word in str(refused.value) for word in says), str(refused.value)


@pytest.mark.parametrize(("function", "says"), [
    ("nothing", "nothing to call"), ("predicto", "did you mean 'predictor'?"),
])  # fmt: skip
def test_a_function_that_is_none_is_refused_when_it_is_tried(function, says, folder):
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        examine(read(folder, **{**MINE, "predictor": f"mine.py:{function}"}))


def test_a_predictor_that_fails_is_convicted_of_it_and_of_nothing_else(folder):
    found = [v for v in examine(read(folder, **{**MINE, "predictor": "mine.py:other"})) if v.convicts]
    assert [v.rule for v in found] == ["L20"]
    assert "NameError" in found[0].evidence
    assert "mine.py, line" in found[0].evidence


def test_files_that_are_damaged_are_refused(folder):
    (folder / "claim.json").write_text("{")
    with pytest.raises(DataError, match="a claim is a JSON file"):
        Dossier.read(folder / "claim.json")
    with pytest.raises(DataError, match="a claim is a JSON file"):
        Dossier.read(folder / "none.json")
    (folder / "claim.json").write_text("[1]")
    with pytest.raises(ConfigError, match="one JSON object"):
        Dossier.read(folder / "claim.json")
    (folder / "ledger.npz").write_bytes(b"no zip")
    with pytest.raises(StoreError):
        read(folder, ledger="ledger.npz")


def test_no_key_is_both_read_and_passed_over():
    assert not set(Claim.model_fields) & SAY_NOTHING


def test_shards_of_other_names_are_found(tmp_path):
    """The official export's, with and without sidecars."""
    write_shard(tmp_path / "fineweb_val_000000.bin", IDS)
    write_shard(tmp_path / "fineweb_val_bytes_000000.bin", COUNTS)
    ids, counts = read(tmp_path, tokens=".").scored
    assert (ids == IDS).all()
    assert (counts == COUNTS).all()
    (tmp_path / "fineweb_val_bytes_000000.bin").unlink()
    with pytest.raises(DataError, match="sidecars or by a tokenizer"):
        assert read(tmp_path, tokens=".").scored
    with pytest.raises(DataError, match="the select split has a shard"):
        assert read(tmp_path, tokens=".", split="select").scored


def test_each_claim_has_its_own_helpers(tmp_path):
    """Of two folders with files of the same names, each is read for its own claim."""
    answers = []
    for name, value in (("a", 1.0), ("b", 2.0)):
        home = tmp_path / name
        home.mkdir()
        shards(home)
        (home / "helper_here.py").write_text(f"VALUE = {value}\n")
        (home / "loop.py").write_text(
            "import numpy as np\nfrom helper_here import VALUE\n\n"
            "def evaluate(tokens, counts):\n    return np.full(len(tokens), VALUE)\n"
        )
        found = read(home, tokens="shards", evaluator="loop.py:evaluate", vocab_size=24, code=["loop.py"])
        answers.append(float(found.trial.first.nll[1]))
    assert answers == [1.0, 2.0]


def test_nobody_chooses_to_be_examined_less_closely(folder):
    (folder / "claim.json").write_text(
        json.dumps({**MINE, "probe": {"tokens": 8, "places": 1, "sums": 2000}})
    )
    probe = Dossier.read(folder / "claim.json").probe
    assert (probe.tokens, probe.places, probe.sums) == (Probe().tokens, Probe().places, 2000)


@pytest.mark.parametrize("text", [
    '{"val_bpb": NaN}', '{"seed_results": {"1": {"artifact_bytes": 1e999}}}', '{"val_tokens": 1' + "0" * 400 + "}",
    "[" * 100_000, '{"artifact": "' + "x" * 5000 + '"}', '{"artifact": "shards"}', '{"code": ["shards"]}',
    '{"config": "shards"}', '{"ledger": "mine.py"}', '{"tokens": "mine.py"}',
], ids=["nan", "inf", "huge", "deep", "long path", "folder as artifact", "folder as code", "folder as config",
        "code as ledger", "file as tokens"])  # fmt: skip
def test_what_cannot_be_is_refused_in_three_lines(folder, text):
    (folder / "claim.json").write_text(text)
    with pytest.raises((ConfigError, DataError, StoreError)) as refused:
        Dossier.read(folder / "claim.json")
    assert len(str(refused.value).splitlines()) <= 3


@pytest.mark.parametrize("arrays", [
    {"events": np.zeros((3, 4), np.int64), "nll": np.zeros(3)}, {"events": np.zeros((0, 11)), "nll": np.zeros(3)},
    {"events": np.zeros((0, 11), np.int64), "nll": np.zeros((3, 1))}, {"nll": np.zeros(3)},
    {"events": np.zeros((0, 11), np.int64), "nll": np.zeros(0)},
], ids=["columns", "floats", "two axes", "no events", "empty"])  # fmt: skip
def test_a_ledger_that_is_none_is_refused(folder, arrays):
    write_arrays(folder / "ledger.npz", arrays)
    with pytest.raises(DataError, match="a ledger holds events and nll"):
        read(folder, ledger="ledger.npz")


def test_without_bytes_nothing_is_divided(folder):
    write_shard(folder / "shards" / "validation_bytes_000000.bin", np.zeros(100, np.uint16))
    found = read(folder, tokens="shards", val_bytes=0, val_loss=1.0, val_bpb=1.0, val_tokens=99)
    assert {v.rule: v.holds for v in examine(found)}["L8"] is False


@pytest.mark.parametrize(
    "ending", ["raise SystemExit(0)", "raise KeyError(3)", "return table", "return None"]
)
def test_a_predictor_that_does_not_come_through_is_convicted_or_refused(folder, ending):
    (folder / "mine.py").write_text(f"def predictor(artifact, vocab_size):\n    table = 3\n    {ending}\n")
    if ending.startswith("return"):
        with pytest.raises(ConfigError, match="a predictor is a"):
            examine(read(folder, **MINE))
    else:
        convicted = [v.rule for v in examine(read(folder, **MINE)) if v.convicts]
        assert convicted == ["L20"]
