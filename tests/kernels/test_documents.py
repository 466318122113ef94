"""Where documents begin and end, as kernels take it."""

import pytest
import torch
from hypothesis import given

from pgolf.kernels.documents import BUCKET, begins, cu_seqlens, lengths, ordinals
from tests.kernels.packed import rows_of

TWO_ROWS = torch.tensor([[False, False, True, False], [True, True, False, False]])


def test_two_rows_by_hand():
    """The first row begins in the middle of a document, and rows never meet: 2, 2 | 1, 3 tokens."""
    assert lengths(TWO_ROWS) == [2, 2, 1, 3]
    assert cu_seqlens(TWO_ROWS, 3).tolist() == [0, 2, 4, 5] + [8] * 60
    assert ordinals(TWO_ROWS).tolist() == [[1, 1, 2, 2], [1, 2, 2, 2]]


def slow_lengths(starts):
    out = []
    for row in starts.tolist():
        for position, start in enumerate(row):
            if start or position == 0:
                out.append(0)
            out[-1] += 1
    return out


@given(starts=rows_of())
def test_lengths_are_those_of_a_loop_over_the_positions(starts):
    assert lengths(starts) == slow_lengths(starts)


@given(starts=rows_of(max_rows=6, max_time=40))
def test_boundaries_add_up_and_the_rest_is_documents_of_no_tokens(starts):
    got = cu_seqlens(starts, starts.shape[1])
    documents = slow_lengths(starts)
    assert got.dtype == torch.int32
    assert len(got) % BUCKET == 0
    assert len(got) - BUCKET < len(documents) + 1 <= len(got)
    assert got.diff().tolist() == documents + [0] * (len(got) - 1 - len(documents))


@pytest.mark.parametrize(("documents", "entries"), [(63, 64), (64, 128), (127, 128), (128, 192)])
def test_entries_are_a_multiple_of_64(documents, entries):
    assert len(cu_seqlens(torch.ones(1, documents, dtype=torch.bool), 1)) == entries


def test_a_document_longer_than_promised_is_found():
    cu_seqlens(TWO_ROWS, 3)
    with pytest.raises(AssertionError, match="3 tokens, but at most 2"):
        cu_seqlens(TWO_ROWS, 2)


def test_what_is_asked_about_is_not_changed():
    starts = torch.zeros(2, 4, dtype=torch.bool)
    begins(starts), lengths(starts), cu_seqlens(starts, 8)
    assert not starts.any()
