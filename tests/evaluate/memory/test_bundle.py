"""Memories in the one-file submission: they score as pgolf does, and what is not used is not in the file."""

import json

import numpy as np
import pytest

from pgolf.evaluate.deployed import deployed, shards
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.memory.context_mixing import ContextMixing
from pgolf.evaluate.memory.knn import Knn
from pgolf.evaluate.memory.ppm import Ppm
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from pgolf.formats.shards import write_shard
from pgolf.model.gpt import GptConfig
from tests.evaluate.memory.laws import text
from tests.nets import small
from tests.pack.test_bundle import Case, job, packed, run_alone

pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("memory-bundles")]

SHARED = {"share_documents": True, "round_tokens": 60}
MODE = DocumentChunks(context=32, chunk=8, rows=4)
CASES = {
    "token_tilt": Case(small(), MODE.but(memory=TokenTilt(orders=(1, 2, 4), hints=2, **SHARED))),
    "ppm": Case(small(), MODE.but(memory=Ppm(orders=(2, 3)))),
    "context_mixing": Case(small(), MODE.but(memory=ContextMixing(orders=(1, 2), **SHARED))),
    "chain": Case(small(), MODE.but(memory=UnigramCache(base=Knn()))),
    "none": Case(small(), MODE),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    home = tmp_path_factory.mktemp("shards")
    ids = text(3, 240).astype(np.uint16)
    write_shard(home / "tokens.bin", ids)
    write_shard(home / "bytes.bin", np.where(ids == 1, 0, ids % 5 + 1).astype(np.uint16))
    return home / "tokens.bin", home / "bytes.bin"


@pytest.fixture(scope="module")
def alone(files, tmp_path_factory):
    home = tmp_path_factory.mktemp("bundles")
    done = run_alone([job(case, home / name, files) for name, case in CASES.items()], home)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: json.loads((home / name / "scores.json").read_text()) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_it_scores_as_pgolf_does(name, alone, files, tmp_path):
    case = CASES[name]

    def read():
        return shards(files[:1]), shards(files[1:])

    _, here = deployed(packed(case, tmp_path), read, GptConfig.model_validate, case.evaluate, "cpu", "auto")
    assert alone[name]["bpb"] == here["bpb"]
    assert ("memory_seconds" in alone[name]) is (name != "none")


def test_what_is_not_remembered_is_not_in_the_file():
    programs = {name: case.program() for name, case in CASES.items()}
    counted = {name for name, text_ in programs.items() if ",return_inverse" in text_}
    assert counted == CASES.keys() - {"chain", "none"}
    assert {name for name, t in programs.items() if "linalg.solve" in t} == {"token_tilt"}
    assert not [name for name, t in programs.items() if "in_window" in t or "dloss" in t], "no log"
    sizes = {name: len(case.bundle()) for name, case in CASES.items()}
    print(sizes)
    assert max(sizes.values()) - sizes["none"] < 5500
