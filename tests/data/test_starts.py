"""Document starts, and the cap on how long a segment is."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.starts import capped, document_starts, positions_in_segment


def test_starts_of_a_worked_example():
    tokens = torch.tensor([[7, 1, 5, 1], [1, 2, 3, 4]])
    assert document_starts(tokens).tolist() == [[True, True, False, True], [True, False, False, False]]
    assert tokens.tolist() == [[7, 1, 5, 1], [1, 2, 3, 4]]


def test_a_cap_of_a_worked_example():
    """Documents of 2, 7 and 3 tokens under a cap of 3: the second is cut after 3 and after 6."""
    starts = torch.tensor([[1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0]]).bool()
    assert capped(starts, 3).int().tolist() == [[1, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0]]
    assert positions_in_segment(starts).tolist() == [[0, 1, 0, 1, 2, 3, 4, 5, 6, 0, 1, 2]]


@given(
    marks=st.lists(st.lists(st.booleans(), min_size=20, max_size=20), min_size=1, max_size=3),
    context=st.integers(1, 24),
)
def test_no_segment_is_longer_and_no_start_is_lost(marks, context):
    starts = torch.tensor(marks)
    starts[:, 0] = True
    before = starts.clone()
    got = capped(starts, context)
    assert torch.equal(starts, before), "the original stays as it is"
    assert (got | ~starts).all(), "a document's start stays one"
    for row, old in zip(got.tolist(), starts.tolist(), strict=True):
        length = 0
        for begins, document in zip(row, old, strict=True):
            cut = begins and not document
            assert not cut or length == context, "a cut comes after exactly `context` tokens"
            length = 1 if begins else length + 1
            assert length <= context


def test_a_row_within_the_cap_is_as_it_was():
    starts = torch.tensor([[True, False, True, False]])
    assert capped(starts, 4) is starts
