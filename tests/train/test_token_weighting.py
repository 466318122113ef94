"""Token weights: late positions, rare tokens, what a bigram table does not know."""

import numpy as np
import pytest
import torch

from pgolf.data.batch import Batch
from pgolf.data.loader import Windows
from pgolf.data.starts import document_starts
from pgolf.data.stream import Stream
from pgolf.formats.shards import shard_name, write_shard
from pgolf.train.token_weighting import Complementary, FrequencyWeights, TailEmphasis, sampled


def stream_of(home, tokens: list[int]) -> Stream:
    write_shard(home / shard_name("train"), np.array(tokens, dtype=np.uint16))
    return Stream(home)


def batch_of(row: list[int]) -> Batch:
    tokens = torch.tensor([row[:-1]])
    return Batch(tokens, document_starts(tokens), torch.tensor([row[1:]]))


def test_tail_worked_example(tokens):
    """Of a context of 4, from a half: the third and fourth token of every segment."""
    weigh = TailEmphasis(from_fraction=0.5, weight=3.0).weigher(Stream(tokens), 9, 4, "cpu")
    assert weigh(batch_of([1, 5, 5, 5, 1, 5, 1, 5, 5])).tolist() == [[1, 1, 3, 3, 1, 1, 1, 1]]
    capped = batch_of([1, 5, 5, 5, 5, 5, 5, 5, 5]).capped(4)
    assert weigh(capped).tolist() == [[1, 1, 3, 3, 1, 1, 3, 3]], "a cut begins a segment"


def test_frequency_worked_example(tmp_path):
    """Counts 15, 3, 0 and one more for each: shares 16/21, 4/21, 1/21; at power 1/2 weights 1 : 2 : 4."""
    stream = stream_of(tmp_path, [0] * 15 + [1] * 3)
    table = FrequencyWeights(power=0.5, limit=100.0).table(stream, 3)
    assert table / table[0] == pytest.approx([1, 2, 4])
    assert table @ np.array([16, 4, 1]) / 21 == pytest.approx(1), "the mean weight over the data is one"
    limited = FrequencyWeights(power=0.5, limit=1.5).table(stream, 3)
    assert limited[2] == 1.5 == limited.max()
    weigh = FrequencyWeights(power=0.5, limit=100.0).weigher(stream, 3, 8, "cpu")
    assert weigh(batch_of([0, 2, 1]))[0].tolist() == pytest.approx([table[2], table[1]]), "of the targets"


def test_complementary_worked_example(tmp_path):
    """After 5 comes 6 three times and 7 once; nothing ever comes after 8."""
    stream = stream_of(tmp_path, [5, 6, 5, 6, 5, 7, 5, 6, 8])
    table = Complementary().bigrams(stream, 10)
    assert table[5, 6] == 0.75
    assert table[5, 7] == 0.25
    assert not table[8].any()
    weigh = Complementary(strength=0.5).weigher(stream, 10, 8, "cpu")
    assert weigh(batch_of([5, 6, 8, 5, 7]))[0].tolist() == pytest.approx(
        [0.625, 1 - 0.5 / 3, 1.0, 0.875], abs=1e-3
    )


@pytest.mark.parametrize("section", [TailEmphasis(), FrequencyWeights(power=0.5), Complementary()])
def test_weights_are_positive_and_not_all_alike(tokens, section):
    batch = next(iter(Windows(tokens, 16, 4, seed=0)))
    weights = section.weigher(Stream(tokens), 24, 16, "cpu")(batch)
    assert weights.shape == batch.targets.shape
    assert weights.dtype == torch.float32
    assert (weights > 0).all()
    assert len(weights.unique()) > 1


def test_counts_are_taken_from_all_over_the_stream(tmp_path, monkeypatch):
    monkeypatch.setattr("pgolf.train.token_weighting.BLOCK_TOKENS", 10)
    stream = stream_of(tmp_path, list(range(100)))
    blocks = sampled(stream, 40)
    assert [len(b) for b in blocks] == [10] * 4
    assert [b[0] for b in blocks] == [0, 30, 60, 90]
    assert sum(len(b) for b in sampled(stream, 10**9)) == 100, "no more than there is"
    assert [b.tolist() for b in sampled(stream, 3)] == [[0, 1, 2]]
