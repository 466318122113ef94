"""The cache of states against its definition."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pgolf.evaluate.growing import Growing
from pgolf.evaluate.memory.knn import Knn
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.predictor import Ask
from tests.evaluate.memory.byhand import targets
from tests.evaluate.memory.laws import CHEAP, DOCUMENTS, MemoryLaws, drive, remembered, text
from tests.nets import network, small, stream


class TestKnn(MemoryLaws):
    SECTIONS = (Knn(), Knn(gate=None), Knn(mix=0.5, sharpness=3.0, care=1.0, window=5))
    SHARES = False


@pytest.mark.parametrize("section", [Knn(mix=0.3, sharpness=4.0, care=0.5), Knn(window=7)])
def test_it_is_the_kernel_over_scored_states(section):
    ids = text(4)
    got = np.exp(remembered(section.but(gate=None), ids).answers)
    plain = np.exp(drive(CHEAP, ids, DOCUMENTS).answers)
    for target, known, inputs in targets(ids):
        begin = target - len(inputs)
        past = range(max(begin + 1, begin + len(known) - section.window), begin + len(known))
        expected = plain[target]
        if len(past):
            h = {t: state(ids[begin:t]) for t in (*past, target)}
            alike = np.array([h[target] @ h[t] for t in past])
            share = np.exp(section.sharpness * alike)
            cache = np.bincount(ids[list(past)], share / share.sum(), plain.shape[1])
            mix = section.mix * np.exp(section.sharpness * section.care * (alike.max() - 1))
            expected = (1 - mix) * expected + mix * cache
        assert np.allclose(got[target], expected, rtol=1e-9)


def state(inputs: np.ndarray) -> np.ndarray:
    """Of the last position, of length one."""
    whole = torch.from_numpy(inputs)
    CHEAP.log_probs(Ask.of(torch.cat([whole, whole[:1]]), np.array([[0, len(inputs), len(inputs) + 1]])))
    h = CHEAP.states()[-1].numpy()
    return h / np.linalg.norm(h)


def test_states_are_those_of_the_distributions_asked_for():
    """Through a network, whole and one position after the other."""
    net, ids = network(small(layers=2)), stream(0, 30, 2)[0]
    whole = Ask.of(ids, np.array([[0, 5, 9], [10, 12, 20]]), slots=(0, 1))
    parts = [
        Ask.of(ids, np.array([[0, t, t + 1], [10, t + 7, t + 8]]), (0, 1), growing=True) for t in (5, 6, 7)
    ]
    for neural, asks in ((Neural(net), [whole]), (Growing(net), parts)):
        for ask in asks:
            with torch.no_grad():
                answers = neural.log_probs(ask)
                assert torch.equal(neural.logits(neural.states()).double().log_softmax(-1), answers)


def test_it_works_over_a_network_and_what_adapts_it():
    from pgolf.evaluate.ttt.document_lora import DocumentLora

    ids = text(1)
    mode = DOCUMENTS.but(ttt=DocumentLora(), memory=Knn())
    seen = drive(mode.predictor(network(small(layers=2))), ids, mode)
    assert np.abs(np.exp(seen.answers[1:]).sum(1) - 1).max() < 1e-9
    assert seen.audit().order == "document_independent"


def test_states_of_other_documents_are_not_to_be_had():
    with pytest.raises(ValidationError, match="a document's alone"):
        Knn(share_documents=True)
