"""The byte law: what a score is divided by is the text's own length, whatever the text is.

Hostile documents are built from what has broken byte counts before: U+2581 (SentencePiece's own sign
for a space), NUL, white space of all kinds, control pieces written out, bytes that are not UTF-8.
"""

import io
import re

import numpy as np
import pytest
import sentencepiece as spm
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgolf.data.corpus import read_documents
from pgolf.data.tokenizer import SPACE, SpBpe, Tokenizer
from pgolf.errors import DataError
from pgolf.formats.shards import BOS, SPLITS, read_split

UTF8_BYTES = [b for b in range(256) if b not in {0xC0, 0xC1, *range(0xF5, 0x100)}]
HOSTILE = [
    "", " ", "  ", " " * 300, "\0", "a\0b", "▁", " ▁ ", "▁▁a▁", "\r\n", "\r", "\n\n\n", "\t \t", " a", "a ",
    "e\u0301\u0302", "\u0301", "ﬁ①Å", "\ufeff", "\u200b", "\u00a0\u3000", "\ue000\uf8ff", "𝔘🦖\U0010ffff",
    "<s>", "</s>", "<unk>", "<pad>", "<0x41>", "<0xE2>", "x" * 5000, "ab" * 700, "\u2028", "1234567890",
    "".join(map(chr, range(32))), "\ud7ff\ue000\uffff", "ن" * 50, "日本語のテキスト",
]  # fmt: skip
DOCUMENTS = st.one_of(
    st.lists(st.sampled_from(HOSTILE), max_size=6).map("".join).map(str.encode),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    st.binary(max_size=40),
    st.tuples(st.sampled_from(HOSTILE), st.binary(max_size=8), st.sampled_from(HOSTILE)).map(
        lambda parts: parts[0].encode() + parts[1] + parts[2].encode()
    ),
)


def holds(tokenizer: Tokenizer, document: bytes) -> None:
    """The law for one document, and for the stream BOS + document."""
    ids = tokenizer.encode(document)
    assert tokenizer.decode(ids) == document
    stream = np.array([BOS, *ids], dtype=np.uint16)
    counts = tokenizer.byte_counts(stream)
    assert counts[0] == 0
    assert counts.sum() == len(document)
    assert [len(tokenizer.token_bytes[i]) for i in stream] == counts.tolist()


@pytest.mark.parametrize("document", [text.encode() for text in HOSTILE], ids=lambda d: repr(d[:12]))
def test_every_byte_of_a_hostile_document_is_counted_once(tokenizer, document):
    holds(tokenizer, document)


def test_every_single_byte_and_every_byte_of_valid_utf8_is_counted_once(tokenizer):
    for value in range(256):
        holds(tokenizer, bytes([value]))
    seen = set()
    for point in (
        *range(0x0, 0x800, 7),
        *range(0x800, 0xD800, 331),
        *range(0xE000, 0x110000, 4001),
        0x10FFFF,
    ):
        text = chr(point).encode()
        seen |= set(text)
        holds(tokenizer, b"a" + text + b" b")
    for lead in range(0xC2, 0xF5):  # every lead byte of a sequence, with its smallest continuation
        text = {1: bytes([lead, 0x80]), 2: bytes([lead, 0xA0 if lead == 0xE0 else 0x80, 0x80])}.get(
            1 if lead < 0xE0 else 2 if lead < 0xF0 else 3,
            bytes([lead, 0x90 if lead == 0xF0 else 0x80, 0x80, 0x80]),
        )
        text.decode("utf-8")
        seen |= set(text)
        holds(tokenizer, text)
    assert set(UTF8_BYTES) - set(range(128)) <= seen | set(range(0x80, 0xC0))


@settings(max_examples=150)
@given(document=DOCUMENTS)
@example(document="▁".encode()[:2])
@example(document="a▁".encode()[:-1] + b"\xff")
@example(document=b"\xed\xa0\x80")  # a surrogate half
def test_any_bytes_come_back_and_are_counted(tokenizer, document):
    holds(tokenizer, document)


@settings(max_examples=40)
@given(documents=st.lists(DOCUMENTS, max_size=5))
def test_counts_of_a_stream_are_the_documents_lengths_whatever_their_neighbours(tokenizer, documents):
    stream = [t for d in documents for t in (BOS, *tokenizer.encode(d))]
    counts = tokenizer.byte_counts(np.array(stream, dtype=np.uint16))
    assert counts.sum(dtype=np.int64) == sum(map(len, documents))


@pytest.mark.parametrize("split", SPLITS)
def test_a_splits_sidecar_sums_to_the_text_it_stands_for(tiny_trial, tiny_tokens, split):
    texts = list(read_documents(tiny_trial.stage("corpus"), split))
    tokens, counts = read_split(tiny_tokens, split)
    assert counts.sum(dtype=np.int64) == sum(map(len, texts))
    starts = np.flatnonzero(tokens == BOS)
    assert np.add.reduceat(counts.astype(np.int64), starts).tolist() == list(map(len, texts))
    assert not counts[starts].any()


def test_the_stored_tokens_of_the_validation_split_decode_to_its_documents(
    tiny_trial, tiny_tokens, tokenizer
):
    tokens, _ = read_split(tiny_tokens, "validation")
    texts = b"".join(read_documents(tiny_trial.stage("corpus"), "validation"))
    assert tokenizer.decode(tokens.tolist()) == texts


def test_special_pieces_written_in_a_text_are_text(tokenizer):
    for text in (b"<s>", b"</s>", b"<unk>", b"<pad>"):
        ids = tokenizer.encode(text)
        assert min(ids) > 3
        assert tokenizer.decode(ids) == text


def test_an_id_outside_the_vocabulary_cannot_be_decoded(tokenizer):
    with pytest.raises(IndexError):
        tokenizer.decode([tokenizer.vocab_size])


def test_training_twice_gives_the_same_model():
    texts = [f"the value number {i} is {i * i}\n".encode() * 3 for i in range(400)]
    assert SpBpe(vocab_size=320).train(texts).model == SpBpe(vocab_size=320).train(texts).model


def test_a_vocabulary_larger_than_the_text_can_teach_is_smaller_or_refused():
    with pytest.raises(DataError, match="needs text"):
        SpBpe(vocab_size=400).train([])


# ------------------------------------------------------------------ models that normalize (official ones)


def sentencepiece_model(**changes) -> bytes:
    model = io.BytesIO()
    lines = [f"the quick brown fox number {i} jumps over {i % 7} lazy dogs, and so on" for i in range(300)]
    flags = {
        "model_type": "bpe", "vocab_size": 420, "byte_fallback": True, "normalization_rule_name": "nmt_nfkc",
        "add_dummy_prefix": False, "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3,
        "hard_vocab_limit": False, "minloglevel": 3,
    }  # fmt: skip
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **{**flags, **changes})
    return model.getvalue()


@pytest.fixture(scope="module")
def normalizing() -> Tokenizer:
    return Tokenizer(sentencepiece_model())


def test_a_normalizing_model_is_recognized(normalizing, tokenizer):
    assert not normalizing.lossless
    assert tokenizer.lossless


@settings(max_examples=80)
@given(
    words=st.lists(
        st.sampled_from(["the", "fox", "ﬁne", "  two", "日本", "x", "jumps ", "é", "①"]), max_size=9
    )
)
def test_the_look_up_rule_counts_what_a_normalizing_model_decodes(normalizing, words):
    """Per document: counts sum to the UTF-8 length of SentencePiece's own decoding."""
    sp = spm.SentencePieceProcessor(model_proto=normalizing.model)
    documents = [" ".join(words), " ".join(reversed(words)), " leading", "the fox"]
    ids = [sp.encode(text) for text in documents]
    stream = np.array([t for document in ids for t in (BOS, *document)], dtype=np.uint16)
    counts = normalizing.byte_counts(stream).astype(np.int64)
    got = np.add.reduceat(counts, np.flatnonzero(stream == BOS))
    assert got.tolist() == [len(sp.decode(document).encode()) for document in ids]


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_the_look_up_rule_holds_with_and_without_the_dummy_prefix(dummy_prefix):
    model = sentencepiece_model(add_dummy_prefix=dummy_prefix)
    sp, made = spm.SentencePieceProcessor(model_proto=model), Tokenizer(model)
    for text in ("the quick fox", "fox", "  the   fox  ", "日 本"):
        ids = sp.encode(text)
        counts = made.byte_counts(np.array([BOS, *ids], dtype=np.uint16))
        assert counts.sum() == len(sp.decode(ids).encode()) == len(made.text(ids))
        without_bos = made.byte_counts(np.array(ids, dtype=np.uint16))
        assert without_bos.tolist() == counts[1:].tolist()  # a stream begins at a boundary


def test_a_tokenizer_without_the_space_piece_is_refused():
    """Rename the piece in a real model: the space would be spelt as three byte tokens and cost 3."""
    model = sentencepiece_model(split_by_whitespace=True)
    piece = SPACE.encode()
    field = b"\n" + bytes([len(piece)]) + piece + b"\x15"  # protobuf: piece = 1, score = 2
    assert model.count(field) == 1
    with pytest.raises(DataError, match=re.escape("U+2581")):
        Tokenizer(model.replace(field, b"\n" + bytes([len(piece)]) + "☃".encode() + b"\x15"))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "t.model").write_bytes(b"no model at all")
    for file in ("t.model", "missing.model"):
        with pytest.raises(DataError, match=r"SentencePiece \.model"):
            Tokenizer.load(tmp_path / file)


def test_a_stream_of_another_tokenizer_does_not_fit(tokenizer):
    texts = [f"def f{i}(x): return x + {i}\n".encode() for i in range(50)]
    mine = np.array([t for d in texts for t in (BOS, *tokenizer.encode(d))], dtype=np.uint16)
    tokenizer.fits(mine, "mine.bin")
    other = SpBpe(vocab_size=tokenizer.vocab_size).train([b"zebra quartz vox jumps " + d for d in texts] * 20)
    with pytest.raises(DataError, match=r"other\.bin"):
        other.fits(mine, "other.bin")
    with pytest.raises(DataError, match="begins with BOS"):
        tokenizer.fits(mine[1:], "cut.bin")
    with pytest.raises(DataError, match="below the vocabulary's size"):
        tokenizer.fits(np.array([BOS, tokenizer.vocab_size], dtype=np.uint16), "big.bin")
