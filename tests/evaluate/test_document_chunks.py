"""Documents in chunks: from where a target is seen, and which documents advance together."""

import pytest
from pydantic import ValidationError

from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.drive import starts_of
from pgolf.evaluate.predictor import Extent
from tests.evaluate.contract import ModeContract, document_of
from tests.nets import stream


class TestDocumentChunks(ModeContract):
    modes = (
        DocumentChunks(context=4, chunk=4),
        DocumentChunks(context=9, chunk=4, rows=3),
        DocumentChunks(context=9, chunk=6, short_chunks=((5, 2), (12, 3)), order="longest"),
    )

    def seen_from(self, mode, target, starts, tokens):
        begin, last = document_of(target, starts, tokens)
        chunk = next((c for most, c in mode.short_chunks if last - begin <= most), mode.chunk)
        end = min(begin + 1 + ((target - 1 - begin) // chunk + 1) * chunk, last + 1)
        return max(begin, end - 1 - mode.context)


def test_documents_of_a_batch_advance_in_step():
    extent = Extent(400, starts_of(stream(2, 400, 30)[0].numpy()))
    mode = DocumentChunks(context=32, chunk=4, rows=5)
    for batch in mode.rounds(extent, [], ranks=2)[0]:
        assert 1 <= len(batch.documents) <= 5
        for number, step in enumerate(batch.steps):
            for row, slot in enumerate(step.slots):
                begin = extent.starts[batch.documents[slot]]
                assert step.windows[row, 1] == begin + 1 + 4 * number
                last = begin + extent.lengths[batch.documents[slot]]
                assert step.ends[row] == (step.windows[row, 2] == last + 1)


def test_the_longest_come_first_if_asked():
    extent = Extent(300, starts_of(stream(4, 300, 25)[0].numpy()))
    mode = DocumentChunks(context=32, chunk=4, order="longest")
    first, second = mode.rounds(extent, [100], ranks=1)
    shortest = min(extent.lengths[d] for batch in first for d in batch.documents)
    assert shortest >= max(extent.lengths[d] for batch in second for d in batch.documents)


@pytest.mark.parametrize(("settings", "says"), [
    ({"context": 8, "chunk": 9}, "lack their own document"),
    ({"context": 8, "chunk": 4, "short_chunks": ((5, 9),)}, "lack their own document"),
    ({"context": 8, "chunk": 4, "short_chunks": ((5, 2), (5, 3))}, "rising limits"),
    ({"context": 8, "chunk": 4, "short_chunks": ((5, 0),)}, "rising limits"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(settings, says):
    with pytest.raises(ValidationError, match=says):
        DocumentChunks(**settings)
