"""On a GPU the same documents cost what they cost on a CPU, adapting or not."""

import numpy as np
import pytest
import torch

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.evaluate.ttt.phased import Phased
from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from tests.nets import network, stream

MODES = {
    "sliding": Sliding(context=16, stride=4),
    "document_chunks": DocumentChunks(context=16, chunk=4),
    "document_lora": DocumentChunks(context=16, chunk=4, ttt=DocumentLora(rank=2, alpha=4.0, lr=0.01)),
    "head_only": DocumentChunks(
        context=16, chunk=4, ttt=DocumentLora(rank=2, alpha=4.0, lr=0.01, targets=("head",))
    ),
    "phased": DocumentChunks(context=16, chunk=4, ttt=Phased(prefix_documents=4, phases=2, lora=None)),
    "stream_sgd": Sliding(context=16, stride=4, ttt=StreamSgd(chunk_tokens=64, sequence_tokens=16)),
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
def test_it_is_the_score_of_the_cpu_up_to_bfloat16(mode):
    ids = stream(5, 300, 12)[0].numpy().astype(np.uint16)
    counts = np.where(ids == 1, 0, 3).astype(np.uint16)
    here = score(mode.predictor(network(std=0.1)), ids, counts, mode).verify()
    there = score(mode.predictor(network(std=0.1).on("cuda")), ids, counts, mode).verify()
    assert there.bpb == pytest.approx(here.bpb, rel=0.01)
    assert np.abs(there.nll - here.nll).max() < 0.2
