"""The range coder: what comes back, what it costs, and that both sides take one path."""

import math

import numpy as np
import pytest
import torch

from pgolf.certify.coder import decode, encode
from pgolf.errors import DataError
from pgolf.evaluate.blocks import Blocks
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.growing import Growing
from pgolf.evaluate.neural import Plain
from pgolf.evaluate.predictor import Predictor
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.evaluate.ttt.phased import Phased
from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from pgolf.evaluate.varlen import Varlen
from pgolf.formats.shards import BOS
from tests.nets import VOCAB, network

NETWORK = network()
MODES = {
    "blocks": Blocks(context=7),
    "sliding": Sliding(context=8, stride=3),
    "varlen": Varlen(context=5),
    "document_chunks": DocumentChunks(context=9, chunk=4, rows=3),
    "short documents in shorter chunks": DocumentChunks(context=9, chunk=6, short_chunks=((5, 2), (12, 3))),
    "adapting to the stream": Sliding(context=8, stride=3, ttt=StreamSgd(chunk_tokens=10, lr=0.05)),
    "adapting to documents": DocumentChunks(context=9, chunk=3, ttt=DocumentLora(rank=2, alpha=4, lr=0.05)),
    "in phases": DocumentChunks(
        context=9,
        chunk=3,
        ttt=Phased(
            prefix_documents=2, phases=2, lr=0.05, lora=DocumentLora(rank=2, alpha=4, lr=0.05, warm_a=True)
        ),
    ),
}


def predictor(mode) -> Predictor:
    return mode.predictor(network() if mode.adaptive else NETWORK, Growing)


def bits(documents: list[list[int]], mode) -> float:
    """The scorer's, of the same documents as a stream."""
    ids = np.array([token for d in documents for token in (BOS, *d)], dtype=np.uint16)
    if len(ids) < 2:
        return 0.0
    return math.fsum(
        score(mode.predictor(network() if mode.adaptive else NETWORK), ids, np.ones_like(ids), mode).nll
    ) / math.log(2)


DOCUMENTS = {
    "one": [[5, 9, 13, 7, 20, 4, 22]],
    "short, empty and long": [
        [5],
        [],
        [9, 13],
        [int(t) for t in np.random.default_rng(3).integers(2, VOCAB, 38)],
        [],
    ],
}


@pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=DOCUMENTS.keys())
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
def test_what_is_coded_comes_back_in_as_many_bytes_as_the_score_says(mode, documents):
    words = encode(predictor(mode), mode, documents)
    assert decode(predictor(mode), mode, [len(d) for d in documents], words) == documents
    expected = bits(documents, mode) / 8
    assert abs(4 * len(words) - expected) <= 0.001 * expected + 8, "the last words of the coder, nothing else"


def test_a_predictor_that_peeks_gains_nothing_and_the_text_is_not_its_own():
    """It is asked one position at a time: at the last input there is nothing behind to look at."""

    def peeking(tokens, starts):
        return 20 * torch.nn.functional.one_hot(tokens.roll(-1, dims=1), VOCAB).float()

    document, mode = [5, 9, 13, 7, 7, 20, 4], Blocks(context=8)
    ids = np.array([BOS, *document], dtype=np.uint16)
    claimed = math.fsum(score(Plain(peeking), ids, np.ones_like(ids), mode).nll) / math.log(2)
    words = encode(Plain(peeking), mode, [document])
    assert claimed < 30 < 32 * len(words)
    assert decode(Plain(peeking), mode, [len(document)], words) == [document], (
        "the coder itself loses nothing"
    )


@pytest.mark.parametrize("rare", [2.0**-17, 2.0**-18, 2.0**-23, 2.0**-24, 1e-12, 1e-40, 1e-300])
@pytest.mark.parametrize("share", [0, 0.5])
def test_what_is_never_expected_costs_what_it_was_given(rare, share):
    """Two tokens are likely, the others by powers of ten rarer than `rare`, and come half of the time."""

    def answers(tokens, starts):
        spread = rare * 10.0 ** -torch.arange(VOCAB, dtype=torch.float64).remainder(4)
        p = spread.clone()
        p[5], p[6] = 0.75 * (1 - spread.sum()), 0.25 * (1 - spread.sum())
        return p.log().expand(*tokens.shape, VOCAB)

    rng, mode = np.random.default_rng(4), Blocks(context=64)
    common = rng.choice([5, 6], 400, p=[0.75, 0.25])
    document = np.where(rng.random(400) < share, rng.integers(2, VOCAB, 400), common).tolist()
    words = encode(Plain(answers), mode, [document])
    ids = np.array([BOS, *document], dtype=np.uint16)
    expected = math.fsum(score(Plain(answers), ids, np.ones_like(ids), mode).nll) / math.log(2)
    assert abs(32 * len(words) - expected) < 64 + 1e-4 * expected
    assert decode(Plain(answers), mode, [len(document)], words) == [document]


def test_what_has_no_probability_is_not_coded():
    def answers(tokens, starts):
        chances = torch.zeros(VOCAB, dtype=torch.float64)
        chances[5], chances[6] = 1 - 1e-9, 1e-9
        return chances.log().expand(*tokens.shape, VOCAB)

    mode = Blocks(context=8)
    with pytest.raises(DataError, match="above zero"):
        encode(Plain(answers), mode, [[5, 6, 7]])


def test_what_the_decoder_lacks_does_not_decode():
    document, mode = [5, 9, 13, 7, 7, 20, 4] * 4, Blocks(context=8)
    known = torch.tensor([BOS, *document])

    def remembers(tokens, starts):
        """Knows the text by heart: an encoder could have it, a decoder has not."""
        place = tokens.shape[1] % 8
        return NETWORK(tokens, starts) + 9 * torch.nn.functional.one_hot(known[place], VOCAB)

    words = encode(Plain(remembers), mode, [document])
    assert decode(predictor(mode), mode, [len(document)], words) != [document]


def test_both_sides_give_the_same_bits_every_time():
    documents = [[5, 9, 13, 7] * 6, [8, 8, 8]]
    mode = MODES["document_chunks"]
    first, second = (encode(predictor(mode), mode, documents) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_nothing_is_coded_in_nothing():
    mode = Blocks(context=4)
    for documents in ([[]], []):
        words = encode(predictor(mode), mode, documents)
        assert decode(predictor(mode), mode, [len(d) for d in documents], words) == documents


def test_what_is_kept_of_earlier_positions_changes_nothing():
    """Growing answers with what it kept are those of a network that is asked anew each time."""
    rng = np.random.Generator(np.random.PCG64(8))
    documents = [rng.integers(2, VOCAB, n).tolist() for n in (21, 5, 0, 12)]
    for mode in MODES.values():
        kept = encode(predictor(mode), mode, documents)
        anew = encode(mode.predictor(network() if mode.adaptive else NETWORK), mode, documents)
        assert abs(len(kept) - len(anew)) <= 1
