"""The pack stage: the artifact is read back before it counts, and the code is one of its inputs."""

from dataclasses import replace

import pytest
import torch

from pgolf.formats.blob import read_artifact
from pgolf.formats.quantized import QuantizedMatrix, QuantizedModel
from pgolf.pack import stage as pack_stage
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.bundle import BUNDLE
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.pack.stage import PACK
from pgolf.pack.zstd_packer import ZstdPacker
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store
from tests.formats.samples import assert_equal
from tests.formats.samples import quantized as of_no_network

HERE = Runtime()


def quantized() -> QuantizedModel:
    """A model whose config is a network's, as everything is that this stage is given."""
    return replace(of_no_network(), model={"layers": 1})


@pytest.fixture
def given(tmp_path) -> Artifact:
    home = tmp_path / "quantized"
    home.mkdir()
    quantized().write(home)
    return Artifact.of(home)


def code_of(tmp_path, text: str = "score") -> Artifact:
    home = tmp_path / text
    home.mkdir(exist_ok=True)
    (home / BUNDLE).write_text(text)
    return Artifact.of(home)


@pytest.mark.parametrize("packer", [BrotliPacker(), BrotliPacker(transpose=True), LzmaPacker(), ZstdPacker()])
def test_the_artifact_holds_the_model_bit_for_bit(given, tmp_path, packer):
    made = PACK(Store(tmp_path / "s"), given, code_of(tmp_path), runtime=HERE, pack=packer)
    assert_equal(read_artifact(made.path / "artifact.bin"), quantized())
    assert made.metrics["model_bytes"] == (made.path / "artifact.bin").stat().st_size
    assert made.metrics["artifact_bytes"] == made.metrics["model_bytes"] + made.metrics["code_bytes"]


def test_equal_models_make_equal_artifacts_in_any_store(given, tmp_path):
    a, b = (
        PACK(Store(tmp_path / s), given, code_of(tmp_path), runtime=HERE, pack=BrotliPacker()) for s in "ab"
    )
    assert a.digest == b.digest


def test_other_code_is_another_pack(given, tmp_path):
    a, b = (
        PACK(Store(tmp_path / "s"), given, code, runtime=HERE, pack=BrotliPacker())
        for code in (code_of(tmp_path), code_of(tmp_path, "other code"))
    )
    assert a.key != b.key
    assert (a.metrics["code_bytes"], b.metrics["code_bytes"]) == (5, 10), "the size of the file"


def test_an_artifact_that_reads_back_otherwise_is_not_published(given, tmp_path, monkeypatch):
    def wrong(data: bytes) -> QuantizedModel:
        model = quantized()
        m = model.matrices["a.w"]
        spoilt = {
            **model.matrices,
            "a.w": QuantizedMatrix(m.q + torch.eye(*m.q.shape, dtype=torch.int16), m.row),
        }
        return QuantizedModel(model.model, model.vocab_size, spoilt, model.roles, model.rest)

    monkeypatch.setattr(pack_stage, "decode", wrong)
    with pytest.raises(AssertionError, match=r"a\.w"):
        PACK(Store(tmp_path / "s"), given, code_of(tmp_path), runtime=HERE, pack=BrotliPacker())
    assert list((tmp_path / "s").iterdir()) == []
