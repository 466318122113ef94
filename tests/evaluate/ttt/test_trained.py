"""On a network that learned something, adaptation pays: paired over documents of text that it never saw."""

import numpy as np
import pytest
from scipy import stats

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.scorer import Scores, score
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.evaluate.ttt.phased import Phased
from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from pgolf.formats.shards import BOS, read_split
from tests.quantize.conftest import trained as trained

pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("trained")]

DOCUMENTS, LENGTH = 24, 256
PLAIN = DocumentChunks(context=128, chunk=16)
LORA = DocumentLora(rank=8, alpha=16.0, lr=3e-3)
SGD = {"sequence_tokens": 128, "rows": 4, "epochs": 2, "lr": 0.01}


@pytest.fixture(scope="module")
def scores(trained, tiny_tokens) -> dict[str, Scores]:
    """Of the select split's beginning, cut into documents of 256 tokens."""
    ids, counts = (
        part[: DOCUMENTS * (LENGTH - 1)].reshape(DOCUMENTS, -1) for part in read_split(tiny_tokens, "select")
    )
    ids = np.pad(ids, ((0, 0), (1, 0)), constant_values=BOS).ravel()
    counts = np.pad(counts, ((0, 0), (1, 0))).ravel()
    kinds = {
        "plain": None,
        "lora": LORA,
        "upper": LORA.but(upper=2, cache_lower=True),
        "phased": Phased(**SGD, chunk_tokens=512, phases=3, prefix_documents=12, lora=LORA),
        "stream": StreamSgd(**SGD, chunk_tokens=512),
    }
    modes = {name: PLAIN.but(ttt=ttt) for name, ttt in kinds.items()}
    return {
        name: score(mode.predictor(trained.network), ids, counts, mode).verify()
        for name, mode in modes.items()
    }


def by_document(found: Scores) -> np.ndarray:
    return np.add.reduceat(found.nll, found.extent.starts) / LENGTH


@pytest.mark.parametrize("name", ["lora", "upper"])
def test_documents_are_cheaper_with_adapters(name, scores):
    saved = by_document(scores["plain"]) - by_document(scores[name])
    print(f"{name}: {scores['plain'].bpb:.4f} -> {scores[name].bpb:.4f} bpb")
    assert scores[name].bpb < scores["plain"].bpb - 0.05
    assert stats.wilcoxon(saved, alternative="greater").pvalue < 1e-3
    assert stats.ttest_1samp(saved, 0, alternative="greater").pvalue < 1e-2


@pytest.mark.parametrize(("name", "without"), [("phased", "lora"), ("stream", "plain")])
def test_learning_from_the_stream_makes_the_rest_cheaper(name, without, scores):
    print(f"{name}: {scores[without].bpb:.4f} -> {scores[name].bpb:.4f} bpb")
    assert scores[name].bpb < scores[without].bpb - 0.005
