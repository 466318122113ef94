"""The scorer: what it adds up, what it refuses, and that the order of windows is nobody's business."""

import math

import numpy as np
import pytest
import torch

from pgolf.errors import UnlawfulScore
from pgolf.evaluate.blocks import Blocks
from pgolf.evaluate.neural import Neural, Plain
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.stage import PROBE_BYTES, probe
from pgolf.formats.shards import read_split
from tests.evaluate.contract import counted
from tests.nets import VOCAB, network, stream

NETWORK = network()


class Shuffled(Sliding):
    """The same windows in another order."""

    def plan(self, tokens: int) -> np.ndarray:
        windows = super().plan(tokens)
        return windows[np.random.default_rng(0).permutation(len(windows))]


class Twice(Sliding):
    """An overlap is scored by both of its windows."""

    def plan(self, tokens: int) -> np.ndarray:
        windows = super().plan(tokens)
        windows[1:, 1] -= 1
        return windows


def test_the_order_of_windows_does_not_matter():
    ids, counts = counted(stream(3, 120, 9)[0].tolist())
    given_ = {"context": 8, "stride": 3}
    plain, shuffled = (score(Neural(NETWORK), ids, counts, plan(**given_)) for plan in (Sliding, Shuffled))
    assert np.allclose(plain.nll, shuffled.nll, rtol=1e-6)
    assert plain.bpb == pytest.approx(shuffled.bpb, rel=1e-7)


def test_a_target_scored_twice_is_refused():
    ids, counts = counted(stream(3, 40, 3)[0].tolist())
    scores = score(Neural(NETWORK), ids, counts, Twice(context=8, stride=3))
    with pytest.raises(UnlawfulScore, match="L6: target 8 was scored 2 times"):
        scores.verify()


def test_a_network_that_knows_nothing_costs_its_vocabulary():
    """log2 V bits a token, over exactly the bytes of the targets: the first token's are not among them."""
    ids = np.array([4, 5, 6, 7], dtype=np.uint16)
    counts = np.array([100, 1, 2, 4], dtype=np.uint16)
    got = score(Plain(lambda t, s: torch.zeros(*t.shape, VOCAB)), ids, counts, Sliding(context=8, stride=8))
    assert got.bytes == 7
    assert got.bpb == pytest.approx(3 * math.log2(VOCAB) / 7)
    assert got.metrics() == {
        "bpb": got.bpb, "val_tokens": 3, "val_bytes": 7, "nats_per_token": pytest.approx(math.log(VOCAB)),
    }  # fmt: skip


def test_the_scorer_normalizes_so_that_logits_cannot_be_inflated():
    ids, counts = counted(stream(1, 30, 2)[0].tolist())
    plan = Sliding(context=8, stride=8)
    raised = score(Plain(lambda t, s: NETWORK(t, s) + 50.0), ids, counts, plan)
    assert raised.bpb == pytest.approx(score(Neural(NETWORK), ids, counts, plan).bpb, abs=1e-5)


def test_a_sum_of_many_bytes_does_not_overflow():
    ids = np.full(4000, 5, dtype=np.uint16)
    counts, plan = np.full(4000, 60_000, np.uint16), Sliding(context=512, stride=512)
    got = score(Plain(lambda t, s: torch.zeros(*t.shape, VOCAB)), ids, counts, plan)
    assert got.bytes == 3999 * 60_000


@pytest.mark.parametrize(("tokens", "counts"), [([5], [3]), ([], []), ([5, 1, 1], [3, 0, 0])])
def test_a_stream_without_anything_to_score_is_refused(tokens, counts):
    with pytest.raises(ValueError, match="nothing to score"):
        score(
            Neural(NETWORK),
            np.array(tokens, np.uint16),
            np.array(counts, np.uint16),
            Sliding(context=4, stride=4),
        )


def test_the_probe_is_the_score_of_the_same_text_whatever_the_tokenizer(tokens):
    """As much of the split's beginning as lies within a number of bytes, not of tokens."""
    ids, counts = read_split(tokens, "select")
    end = next(n for n in range(len(ids) + 1) if n == len(ids) or int(counts[: n + 1].sum()) > PROBE_BYTES)
    expected = score(Neural(NETWORK), ids[:end], counts[:end], Blocks(context=8))
    assert probe(NETWORK, tokens, Sliding(context=8, stride=2)) == expected.bpb
    assert expected.bytes <= PROBE_BYTES
