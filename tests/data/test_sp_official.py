"""The community's flags, and the official tokens that come of them."""

import numpy as np
import pytest

from pgolf.data.sentence_piece import official_text
from pgolf.data.sp_official import SpOfficial
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, read_shard
from tests.data.hostile import LESSONS, SHARED, TOKENIZERS, needs_shared

FREE = {
    "model_prefix",
    "vocab_size",
    "num_threads",
    "user_defined_symbols",
}  # differ without a consequence here


@pytest.fixture(scope="module")
def made() -> Tokenizer:
    return SpOfficial(vocab_size=360).train(LESSONS)


def test_a_worked_example(made):
    """NUL and line ends are spaces, runs of them one; the ligature is folded; outer white space is gone."""
    ids = made.encode("  the\0\n ﬁ ".encode())
    assert made.decode(ids) == b"the fi"
    assert made.byte_counts(np.array([BOS, *ids], dtype=np.uint16)).sum() == 6
    assert made.encode_counted("  the\0\n ﬁ ".encode())[1].sum() == len("the\0\n ﬁ".encode())


def test_what_is_not_utf8_is_a_replacement_character_and_with_these_flags_a_space(made):
    assert made.decode(made.encode(b"a\xffb")) == made.decode(made.encode("a\ufffdb".encode())) == b"a b"


def test_a_leading_space_costs_nothing_after_a_boundary_alone(made):
    space = made.encode(b"a the")[-1]
    assert made._sp.id_to_piece(space) == "▁the"
    assert made.byte_counts(np.array([BOS, space, space, BOS, space], dtype=np.uint16)).tolist() == [
        0,
        3,
        4,
        0,
        3,
    ]


def test_digits_stand_alone_and_a_rare_character_is_spelt_in_bytes():
    once = [*LESSONS, "a single ☃ among thousands of letters".encode()]
    made = SpOfficial(vocab_size=400).train(once)
    pieces = [made._sp.id_to_piece(v) for v in range(260, made.vocab_size)]
    assert not any(sum(c.isdigit() for c in p) > 1 for p in pieces)
    assert "☃" not in pieces
    everything = SpOfficial(vocab_size=400, character_coverage=1.0).train(once)
    assert everything._sp.piece_to_id("☃") > 259


def test_long_documents_are_skipped_in_training_unless_asked_for():
    long = b" ".join(LESSONS)
    assert len(long) > 8192
    with pytest.raises(DataError, match="needs text"):
        SpOfficial(vocab_size=360).train([long])
    assert SpOfficial(vocab_size=360, max_sentence_bytes=100_000).train([long]).vocab_size > 300


def test_the_official_reading_of_a_document():
    assert official_text(b"\0 a\0b\n") == "a b"


@needs_shared
@pytest.mark.parametrize(("name", "vocab_size"), [
    ("fineweb_1024_bpe.official", 1024), ("fineweb_4096_bpe.coder2011", 4096), ("fineweb_8192_bpe.ternary", 8192),
])  # fmt: skip
def test_the_flags_in_a_trained_model_are_those_in_the_published_ones(made, name, vocab_size):
    proto = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    ours, theirs = (
        proto.ModelProto.FromString(m) for m in (made.model, (TOKENIZERS / f"{name}.model").read_bytes())
    )
    flags = [
        {f.name: v for f, v in m.trainer_spec.ListFields() if f.name not in FREE} for m in (ours, theirs)
    ]
    published = {"max_sentence_length": ours.trainer_spec.max_sentence_length} | flags[1]
    assert flags[0] == published
    assert ours.trainer_spec.max_sentence_length == 4192 == theirs.trainer_spec.max_sentence_length
    assert theirs.trainer_spec.vocab_size == vocab_size == SpOfficial(vocab_size=vocab_size).vocab_size
    for field in ("name", "add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces"):
        assert getattr(ours.normalizer_spec, field) == getattr(theirs.normalizer_spec, field)
    assert [p.piece for p in ours.pieces[:260]] == [p.piece for p in theirs.pieces[:260]]


@needs_shared
@pytest.mark.parametrize(("shard", "name", "documents", "text_bytes"), [
    ("fineweb_val_head_sp1024", "fineweb_1024_bpe.official", 902, 2_504_867),
    ("fineweb_train_head_sp4096", "fineweb_4096_bpe.coder2011", 1_322, 3_485_754),
])  # fmt: skip
def test_official_shards_are_reproduced_token_by_token(shard, name, documents, text_bytes):
    tokenizer = Tokenizer.load(TOKENIZERS / f"{name}.model")
    tokens = np.asarray(read_shard(SHARED / "fineweb" / f"{shard}.bin"))
    starts = np.flatnonzero(tokens == BOS)
    assert len(starts) == documents
    assert tokenizer.byte_counts(tokens).sum(dtype=np.int64) == text_bytes
    for begin, end in zip(starts[:-1][::20], starts[1:][::20], strict=True):  # the last document is cut
        ids = tokens[begin + 1 : end].tolist()
        assert tokenizer.encode(tokenizer.decode(ids)) == ids
