"""The scorer against a twin that knows no windows in bulk: one target at a time, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.errors import UnlawfulScore
from pgolf.evaluate.blocks import Blocks
from pgolf.evaluate.neural import Neural, Plain
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.stage import PROBE_BYTES, probe
from pgolf.formats.shards import read_split
from tests.model.twin import row_logits
from tests.nets import VOCAB, network, small, stream

NETWORK = network()
HOSTILE = {
    "one document": [1, *range(2, 20)],
    "many documents of one token": [1, 5, 1, 6, 1, 7, 1, 8, 1, 9, 1, 2, 1],
    "documents of nothing": [1, 1, 1, 1, 5, 1, 1],
    "shorter than the context": [1, 4],
    "a document that begins at every window's border": [1, 4, 5, 1, 6, 7, 1, 8, 9, 1, 2, 3, 1],
    "a stream that begins inside a document": [9, 8, 1, 7, 6, 5, 4, 3, 2],
}


def counted(tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array(tokens, dtype=np.uint16)
    return ids, np.where(ids == 1, 0, 3).astype(np.uint16)


def slow_bits(tokens: list[int], plan: Sliding) -> float:
    """Bits of a stream: each target alone, from its window, by the equations."""
    bits, at = 0.0, 1
    while at < len(tokens):  # the plan once more: the first window is full, the others end at their stride
        end = min(plan.context + 1, len(tokens)) if at == 1 else min(at + plan.stride, len(tokens))
        begin = max(end - 1 - plan.context, 0)
        for target in range(at, end):
            logits = row_logits(NETWORK, small(), tokens[begin:target])[-1]
            bits += (
                np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[tokens[target]]
            ) / math.log(2)
        at = end
    return bits


@pytest.mark.parametrize("tokens", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize(
    "plan", [Sliding(context=3, stride=3), Sliding(context=6, stride=2)], ids=["blocks", "sliding"]
)
def test_it_is_the_twin_on_hostile_streams(tokens, plan):
    ids, counts = counted(tokens)
    got = score(Neural(NETWORK), ids, counts, plan)
    assert got.bpb == pytest.approx(slow_bits(tokens, plan) / int(counts[1:].sum()), abs=1e-6)
    assert got.tokens == len(tokens) - 1
    assert got.nll[0] == 0, "the first token has no past and no score"


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), length=st.integers(2, 24), documents=st.integers(0, 6), context=st.integers(2, 9),
       data=st.data())  # fmt: skip
def test_it_is_the_twin_on_any_stream(seed, length, documents, context, data):
    plan = Sliding(context=context, stride=data.draw(st.integers(1, context)))
    tokens = [5, *stream(seed, length, documents)[0].tolist()]
    ids, counts = counted(tokens)
    if counts[1:].any():
        got = score(Neural(NETWORK), ids, counts, plan)
        assert got.bpb == pytest.approx(slow_bits(tokens, plan) / int(counts[1:].sum()), abs=1e-6)


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
    assert probe(NETWORK, tokens, Sliding(context=8, stride=2), "cpu") == expected.bpb
    assert expected.bytes <= PROBE_BYTES
