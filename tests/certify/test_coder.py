"""The artifact as a text compressor: lossless, as long as the score says, and picky about its input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.certify.coder import Passage, coded_bytes, compress, decompress
from pgolf.errors import DataError
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.model.gpt import Gpt
from tests.nets import VOCAB, network, stream

NETWORK = network()


def passage(tokens: np.ndarray, plan: Sliding) -> Passage:
    return Passage(len(tokens) - 1, plan.plan(len(tokens)).tolist())


def document(seed: int, length: int) -> np.ndarray:
    """BOS and `length` tokens of one document."""
    return stream(seed, length + 1, 0)[0].numpy()


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=3), seed=st.integers(0, 99), context=st.integers(2, 8),
       data=st.data())  # fmt: skip
def test_what_is_coded_comes_back_in_as_many_bytes_as_the_score_says(lengths, seed, context, data):
    plan = Sliding(context=context, stride=data.draw(st.integers(1, context)))
    texts = [document(seed + i, n) for i, n in enumerate(lengths)]
    coded = compress(NETWORK, [passage(t, plan) for t in texts], texts)
    assert decompress(NETWORK, coded) == [t[1:].tolist() for t in texts]
    bits = 0.0
    for t in texts:
        ids = t.astype(np.uint16)
        bits += math.fsum(score(Neural(NETWORK), ids, np.ones_like(ids), plan).nll) / math.log(2)
    assert abs(coded_bytes(coded) - bits / 8) <= 0.001 * bits / 8 + 64


def test_a_long_text_costs_what_its_probabilities_say():
    """0.1 % and the last words of the coder: nothing is lost to the coder's own precision."""
    text, plan = document(1, 300), Sliding(context=4, stride=4)
    coded = coded_bytes(compress(NETWORK, [passage(text, plan)], [text]))
    ids = text.astype(np.uint16)
    expected = math.fsum(score(Neural(NETWORK), ids, np.ones_like(ids), plan).nll) / math.log(2) / 8
    assert abs(coded - expected) <= 0.001 * expected + 8


def predicting(forward) -> Gpt:
    """A network in name, that answers with `forward(tokens, starts)`."""
    made = network()
    made.forward = forward
    return made


def test_a_token_that_is_all_but_impossible_still_comes_back():
    sure = predicting(lambda t, s: torch.where(torch.arange(VOCAB) == 2, 80.0, 0.0).expand(*t.shape, VOCAB))
    text = np.array([1, 2, 23, 2, 2])
    whole = [Passage(4, [[0, 1, 5]])]
    assert decompress(sure, compress(sure, whole, [text])) == [[2, 23, 2, 2]]


def test_another_network_does_not_decode_it():
    text, plan = document(5, 30), Sliding(context=8, stride=8)
    coded = compress(NETWORK, [passage(text, plan)], [text])
    assert decompress(network(seed=9), coded) != [text[1:].tolist()]


def test_a_predictor_that_peeks_does_not_decode():
    """It is handed the text on the way in; on the way out there is none to be handed."""
    text = document(2, 20)

    def peeking(known: list[int]) -> Gpt:
        def forward(tokens, starts):
            logits = torch.zeros(*tokens.shape, VOCAB)
            if tokens.shape[1] < len(known):
                logits[:, -1, known[tokens.shape[1]]] = 30.0
            return logits

        return predicting(forward)

    plan = [Passage(20, [[0, 1, 21]])]
    coded = compress(peeking(text.tolist()), plan, [text])
    assert coded_bytes(coded) < 10, "with the answers at hand a text costs nothing"
    assert decompress(peeking([]), coded) != [text[1:].tolist()]


@pytest.mark.parametrize("damage", [
    lambda c: c[:-1], lambda c: c + b"\0", lambda c: b"", lambda c: b"PGOLFTXT", lambda c: b"X" + c[1:],
    lambda c: c[:12], lambda c: c[:8] + b"\xff\xff\xff\xff" + c[12:],
], ids=["cut", "longer", "empty", "name alone", "foreign", "no header", "header too long"])  # fmt: skip
def test_what_the_coder_did_not_write_is_refused(damage):
    text = document(3, 6)
    coded = compress(NETWORK, [passage(text, Sliding(context=8, stride=8))], [text])
    with pytest.raises(DataError, match="a coded passage is whole"):
        decompress(NETWORK, damage(coded))
