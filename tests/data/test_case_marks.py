"""Marks that merge: fewer tokens than reserved ones for the same text, and not a byte lost or gained."""

import numpy as np
import pytest
from hypothesis import given, settings

from pgolf.data.case_marks import MARKS, CaseMarks
from pgolf.data.case_ops import CaseOps
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.tokenizer import Tokenizer
from pgolf.formats.shards import BOS
from tests.data.hostile import DOCUMENTS, LESSONS

BASE = SpBpe(vocab_size=420)
VARIANTS = [CaseMarks(base=BASE, merges_with=m, before_space=b) for m in MARKS for b in (True, False)]
TRAINED = {section: section.train(LESSONS) for section in VARIANTS}


def pieces(tokenizer: Tokenizer, text: bytes) -> list[str]:
    return [tokenizer._sp.id_to_piece(i) for i in tokenizer.encode(text)]


@pytest.mark.parametrize(("variant", "expected"), [
    (VARIANTS[0], ["▁the", "\ue001", "▁value"]),  # the word is the piece it always is
    (VARIANTS[1], ["▁the", "▁\ue001", "value"]),
    (VARIANTS[2], ["▁the", "ᴛ", "▁value"]),
    (VARIANTS[3], ["▁the", "▁ᴛ", "value"]),
])  # fmt: skip
def test_worked_examples_of_where_the_mark_stands(variant, expected):
    made = TRAINED[variant]
    assert made.case is not None
    coded = made.case.encode(b" the Value")
    assert coded.decode() == "".join(expected).replace("▁", " ")
    assert "".join(pieces(made, b" the Value")) == "".join(expected)
    ids = made.encode(b" the Value")
    assert made.byte_counts(np.array([BOS, *ids], dtype=np.uint16)).sum() == 10


def merged(tokenizer: Tokenizer) -> list[str]:
    """Pieces that hold a mark and something else."""
    assert tokenizer.case is not None
    marks = set(tokenizer.case.marks)
    table = [tokenizer._sp.id_to_piece(v) for v in range(tokenizer.vocab_size)]
    return [p for p in table if len(p) > 1 and set(p) & marks and not set(p) <= {*marks, "▁"}]


def test_marks_merge_with_what_the_section_says():
    for section, made in TRAINED.items():
        found = merged(made)
        letters = [p for p in found if any(c.isascii() and c.isalpha() for c in p)]
        assert bool(letters) == (section.merges_with == "words"), (section, found)


@pytest.mark.parametrize("section", VARIANTS, ids=repr)
def test_the_stream_is_shorter_than_with_reserved_marks(section):
    reserved = CaseOps(base=BASE).train(LESSONS)
    assert len(TRAINED[section].stream(LESSONS)) < len(reserved.stream(LESSONS))


@pytest.mark.parametrize("section", VARIANTS, ids=repr)
@settings(max_examples=100)
@given(document=DOCUMENTS)
def test_no_byte_is_lost_or_counted_twice(section, document):
    made = Tokenizer(TRAINED[section].model)
    stream = made.stream([document, document])
    assert made.decode(stream.tolist()) == document * 2
    counts = made.byte_counts(stream)
    assert counts.sum() == 2 * len(document)
    half = len(stream) // 2
    assert counts[:half].tolist() == counts[half:].tolist()


@pytest.mark.parametrize("section", VARIANTS, ids=repr)
def test_every_mark_is_a_piece_whatever_the_text(section):
    """Else a mark the text had no use for would cost three byte tokens when it is needed."""
    made = section.train([lesson.lower() for lesson in LESSONS])
    assert made.case is not None
    assert all(made._sp.piece_to_id(mark) != made._sp.unk_id() for mark in made.case.marks)
    assert made.decode(made.encode(b"iPhone NASA A")) == b"iPhone NASA A"
