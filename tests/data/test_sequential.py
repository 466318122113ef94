"""Sequential: the stream in its own order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.sequential import Sequential
from pgolf.errors import ConfigError
from tests.data.streams import BASE, opened, positions, take, written


def test_a_worked_example(tmp_path):
    """Nineteen tokens in two shards, batches of 2 x 4: two batches an epoch, the rest is left out."""
    directory = written(tmp_path, [(6, [0]), (13, [3])])
    got = take(opened(directory, Sequential(), 4, 2), 3)
    assert positions(got) == [[0, 4], [8, 12], [0, 4]]
    second = [4, 5, 6, 7]  # runs from the first shard into the second
    assert got[0].tokens[1].tolist() == [BASE + p for p in second]
    assert got[0].targets[1].tolist() == [BASE + 5, BASE + 6, BASE + 7, BASE + 8]
    assert got[0].starts[1].tolist() == [True, False, False, False]
    assert got[1].targets[1].tolist() == [BASE + p for p in (13, 14, 15, 16)]


@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    context=st.integers(2, 9), rows=st.integers(1, 4),
)  # fmt: skip
def test_an_epoch_is_the_stream_cut_in_order(tmp_path_factory, lengths, context, rows):
    """The slow twin: the whole stream as one list, cut by hand."""
    home = written(tmp_path_factory.mktemp("tokens"), [(n, [0]) for n in lengths])
    stream = [
        1 if p in {sum(lengths[:i]) for i in range(len(lengths))} else BASE + p for p in range(sum(lengths))
    ]
    batch = context * rows
    if len(stream) <= batch:
        with pytest.raises(ConfigError, match="more than one batch"):
            opened(home, Sequential(), context, rows)
        return
    per_epoch = (len(stream) - 1) // batch
    got = take(opened(home, Sequential(), context, rows), 2 * per_epoch)
    for i, b in enumerate(got):
        at = (i % per_epoch) * batch
        assert b.tokens.flatten().tolist() == stream[at : at + batch]
        assert b.targets.flatten().tolist() == stream[at + 1 : at + batch + 1]
