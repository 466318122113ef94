"""Packed rows: whole text in order, documents never joined."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.packed import Packed
from pgolf.errors import ConfigError, DataError
from pgolf.formats.shards import BOS
from tests.data.streams import BASE, opened, positions, take, written


def test_a_worked_example(tmp_path):
    """Rows of 4 inputs, 2 a batch, so spans of 10 tokens; the first document of shard 0 begins at 3."""
    directory = written(tmp_path, [(27, [3, 9, 11]), (9, [0]), (12, [1])])
    got = take(opened(directory, Packed(tokens_per_row=4), 1024, 2), 4)
    assert positions(got) == [[3, 8], [13, 18], [37, 42], [3, 8]], "shard 1 is too short, 0 has a tail of 4"
    assert got[0].tokens.tolist() == [[BOS, 104, 105, 106], [108, BOS, 110, BOS]]
    assert got[0].targets.tolist() == [[104, 105, 106, 107], [BOS, 110, BOS, 112]]
    assert got[0].starts.tolist() == [[True, False, False, False], [True, True, False, True]]


@given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=4), gap=st.integers(1, 40), first=st.integers(0, 30),
    row=st.integers(2, 12), rows=st.integers(1, 4), context=st.integers(2, 12),
)  # fmt: skip
def test_an_epoch_is_that_of_a_naive_packer(tmp_path_factory, lengths, gap, first, row, rows, context):
    """The slow twin reads shards as lists, walks the cursor by hand and collects documents one by one."""
    documents = [list(range(min(first, n - 1), n, gap)) for n in lengths]
    home = written(tmp_path_factory.mktemp("tokens"), list(zip(lengths, documents, strict=True)))
    expected = []
    for i, n in enumerate(lengths):
        begin = sum(lengths[:i])
        tokens = [BOS if p in documents[i] else BASE + begin + p for p in range(n)]
        cursor = documents[i][0]
        while cursor + rows * (row + 1) <= n:
            expected.append([tokens[cursor + j * (row + 1) :][: row + 1] for j in range(rows)])
            cursor += rows * (row + 1)
    if not expected:
        with pytest.raises(ConfigError, match="holds a batch of packed rows"):
            opened(home, Packed(tokens_per_row=row), context, rows)
        return
    got = take(opened(home, Packed(tokens_per_row=row), context, rows), 2 * len(expected))
    for batch, spans in zip(got, expected * 2, strict=True):
        assert batch.tokens.tolist() == [span[:-1] for span in spans]
        assert batch.targets.tolist() == [span[1:] for span in spans]
        assert batch.capped(context).starts.tolist() == [naive_starts(span[:-1], context) for span in spans]


def naive_starts(row: list[int], context: int) -> list[bool]:
    marks, length = [], 0
    for i, token in enumerate(row):
        begins = i == 0 or token == BOS or length == context
        length = 1 if begins else length + 1
        marks.append(begins)
    return marks


def test_the_batch_is_contiguous_text(tmp_path):
    """Whatever the number of rows: inputs and last targets together are one span."""
    directory = written(tmp_path, [(200, [0, 50])])
    for rows, row in ((1, 29), (2, 14), (3, 9), (6, 4)):
        batch = take(opened(directory, Packed(tokens_per_row=row), 8, rows), 1)[0]
        whole = torch.cat([batch.tokens, batch.targets[:, -1:]], dim=1).flatten()
        assert whole.tolist() == [BOS, *range(BASE + 1, BASE + 30)]


def test_a_shard_may_hold_exactly_one_batch(tmp_path):
    directory = written(tmp_path, [(21, [1])])
    assert positions(take(opened(directory, Packed(tokens_per_row=4), 4, 4), 2)) == [[1, 6, 11, 16]] * 2
    with pytest.raises(ConfigError, match="holds a batch of packed rows"):
        opened(written(tmp_path, [(20, [1])]), Packed(tokens_per_row=4), 4, 4)


def test_a_shard_without_documents_is_an_error(tmp_path):
    with pytest.raises(DataError, match="document start"):
        opened(written(tmp_path, [(100, [0]), (100, [])]), Packed(tokens_per_row=4), 4, 2)


def test_the_first_document_is_found_far_into_a_shard(tmp_path, monkeypatch):
    monkeypatch.setattr("pgolf.data.packed.LOOK_TOKENS", 7)
    directory = written(tmp_path, [(100, [61])])
    assert positions(take(opened(directory, Packed(tokens_per_row=4), 4, 2), 2)) == [[61, 66], [71, 76]]
