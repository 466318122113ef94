"""Pieces that span words: every space of a piece is one byte, and the text comes back."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data.case_ops import CaseOps
from pgolf.data.cross_ws import CrossWs
from pgolf.data.sp_bpe import SpBpe
from pgolf.data.sp_official import SpOfficial
from pgolf.data.tokenizer import SPACE, Tokenizer
from pgolf.formats.shards import BOS
from tests.data.hostile import DOCUMENTS, LESSONS

WORDS = st.lists(
    st.sampled_from(["of", "the", " ", "  ", "in the end", "a", "\n", "▁", "ﬁ", "The", "é"]), max_size=30
)


@pytest.fixture(scope="module")
def made() -> Tokenizer:
    return CrossWs(base=SpBpe(vocab_size=420)).train(LESSONS)


@cache
def trained(section: CrossWs | CaseOps) -> Tokenizer:
    return section.train(LESSONS)


def spanning(tokenizer: Tokenizer) -> list[int]:
    """Ids of pieces with a space inside."""
    pieces = [tokenizer._sp.id_to_piece(v) for v in range(tokenizer.vocab_size)]
    return [v for v, p in enumerate(pieces) if SPACE in p.strip(SPACE)]


def test_a_worked_example(made):
    ids = made.encode(b"the other days of them")
    pieces = [made._sp.id_to_piece(i) for i in ids]
    assert any(SPACE in p[1:] for p in pieces), pieces
    counts = made.byte_counts(np.array([BOS, *ids], dtype=np.uint16))
    assert counts.tolist() == [0, *(len(p) for p in pieces)]  # one byte a character: a space is no three
    assert counts.sum() == 22


def test_it_is_the_flag_and_nothing_else():
    plain, crossing = SpBpe(vocab_size=420), CrossWs(base=SpBpe(vocab_size=420))
    assert {**plain.training().flags, "split_by_whitespace": False} == crossing.training().flags
    assert not spanning(plain.train(LESSONS))
    assert len(spanning(crossing.train(LESSONS))) > 10


def test_the_stream_is_shorter_than_without(made):
    plain = SpBpe(vocab_size=made.vocab_size).train(LESSONS)
    assert len(made.stream(LESSONS)) < len(plain.stream(LESSONS))


@pytest.mark.parametrize("base", [SpBpe(vocab_size=420), SpOfficial(vocab_size=420)], ids=lambda b: b.kind)
@pytest.mark.parametrize("cased", [False, True])
@settings(max_examples=100)
@given(words=WORDS, glue=st.sampled_from(["", " "]))
def test_the_bytes_of_spanning_pieces_are_exact(base, cased, words, glue):
    section = CaseOps(base=CrossWs(base=base)) if cased else CrossWs(base=base)
    tokenizer = trained(section)
    document = glue.join(words).encode()
    ids = tokenizer.encode(document)
    back = tokenizer.decode(ids)
    counts = tokenizer.byte_counts(np.array([BOS, *ids], dtype=np.uint16))
    assert counts.sum() == len(back)
    assert back == document or not tokenizer.lossless
    assert tokenizer.lossless == isinstance(base, SpBpe)


@given(document=DOCUMENTS)
def test_a_literal_sign_for_a_space_is_three_bytes_and_no_space(made, document):
    marked = b"of" + SPACE.encode() + document
    ids = made.encode(marked)
    assert made.decode(ids) == marked
    of = made.encode(b"of")
    assert ids[: len(of) + 3] == [*of, *(made._byte_id(b) for b in SPACE.encode())]
